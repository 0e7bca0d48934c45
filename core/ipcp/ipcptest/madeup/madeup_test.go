package madeup

import (
	"errors"
	"strings"
	"testing"

	"o7s/core"
	"o7s/core/ipcp"
)

func TestSettings(t *testing.T) {
	tests := []struct {
		given []ipcp.Setting
		want  settings
		err   string
	}{
		{nil, settings{"main", 60, "link_state"}, ""},
		{[]ipcp.Setting{{Name: "wire", Value: "spare"}, {Name: "ttl", Value: "255"}, {Name: "routing", Value: "e"}}, settings{"spare", 255, "ecmp"}, ""},
		{[]ipcp.Setting{{Name: "ttl", Value: "256"}}, settings{}, `ttl "256"`},
		{[]ipcp.Setting{{Name: "routing", Value: "lfa"}, {Name: "ttl", Value: "1"}}, settings{}, "needs a ttl of 2"},
	}
	for _, tt := range tests {
		s, err := Type.Parse(tt.given)
		if err != nil {
			if tt.err == "" || !errors.Is(err, core.ErrUsage) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%v: error %v, want %q", tt.given, err, tt.err)
			}
		} else if got := parse(s); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.given, got, tt.want)
		}
	}
	if err := Type.Verify(); err != nil {
		t.Error(err)
	}
	if err := Type.Delivers(Type.New(ipcp.Env{})); err != nil {
		t.Error(err)
	}
}
