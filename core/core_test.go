package core

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

func TestIDSetGivesLowestFree(t *testing.T) {
	var s IDSet
	for want := range 200 {
		if got := s.Take(); got != want {
			t.Fatalf("Take %d: got %d", want, got)
		}
	}
	for _, id := range []int{130, 3, 64} {
		if !s.Release(id) {
			t.Fatalf("Release(%d) of one in use: false", id)
		}
	}
	if s.Release(3) || s.Release(-1) || s.Release(100000) {
		t.Error("Release of one not in use: true")
	}
	for _, want := range []int{3, 64, 130, 200} {
		if got := s.Take(); got != want {
			t.Errorf("Take after Release: got %d, want %d", got, want)
		}
	}
	if s.Len() != 201 {
		t.Errorf("Len: got %d, want 201", s.Len())
	}
}

func TestCheckName(t *testing.T) {
	for _, ok := range []string{"a", "oping-server", " ", "*", "-n", "a/b/../c", "ø\n", strings.Repeat("x", 255)} {
		if err := CheckName(ok); err != nil {
			t.Errorf("CheckName(%q): %v", ok, err)
		}
	}
	for _, bad := range []string{"", "a\x00b", strings.Repeat("x", 256)} {
		if err := CheckName(bad); !errors.Is(err, ErrUsage) {
			t.Errorf("CheckName(%.10q): %v, want ErrUsage", bad, err)
		}
	}
}

func TestErrnoIsStandardSentinel(t *testing.T) {
	tests := []struct {
		err    error
		target error
		want   bool
	}{
		{ErrTimeout, os.ErrDeadlineExceeded, true},
		{ErrTimeout, context.DeadlineExceeded, true},
		{ErrCanceled, context.Canceled, true},
		{ErrPermission, os.ErrPermission, true},
		{ErrExists, os.ErrExist, true},
		{ErrClosed, net.ErrClosed, true},
		{fmt.Errorf("bind: %w", ErrName), ErrName, true},
		{ErrName, ErrIPCP, false},
		{ErrIRMd, os.ErrDeadlineExceeded, false},
	}
	for _, tt := range tests {
		if got := errors.Is(tt.err, tt.target); got != tt.want {
			t.Errorf("errors.Is(%v, %v): got %v", tt.err, tt.target, got)
		}
	}
	var ne net.Error
	if !errors.As(fmt.Errorf("read: %w", ErrTimeout), &ne) || !ne.Timeout() {
		t.Error("ErrTimeout is no net.Error with Timeout")
	}
}

func TestHashStringIsFirstFourBytes(t *testing.T) {
	h := Hash("\xf6\xc9\x3f\xf2\x01")
	if h.String() != "f6c93ff2" || h.Full() != "f6c93ff201" || Hash("").String() != "" {
		t.Errorf("got %v, %v", h, h.Full())
	}
}

func TestQoSByName(t *testing.T) {
	if q, ok := QoSByName("voice"); !ok || q != QoSVoice {
		t.Errorf("voice: %v, %v", q, ok)
	}
	if _, ok := QoSByName("gold"); ok {
		t.Error("unknown QoS found")
	}
}

func TestMatch(t *testing.T) {
	tests := []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "a", true}, {"a", "ab", false}, {"b", "ab", false},
		{"*", "", true}, {"*", "abc", true}, {"**", "a", true}, {"a*", "a", true}, {"a*", "ba", false},
		{"*a", "ba", true}, {"*a", "ab", false}, {"a*a", "a", false}, {"a*a", "aa", true},
		{"a*b*c", "a-b-c", true}, {"a*b*c", "a-c-b", false}, {"a*x*c", "abc", false}, {"*ab*", "aab", true}, {"*aab", "aaab", true},
		{"*ab*ab", "ab", false}, {"*ab*ab", "abab", true}, {"?", "a", false}, {"[a]", "a", false},
	}
	for _, tt := range tests {
		if got := Match(tt.pattern, tt.s); got != tt.want {
			t.Errorf("Match(%q, %q): got %v", tt.pattern, tt.s, got)
		}
	}
}
