package view

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestKeysAreDocumented: who scripts irm finds each key of its JSON.
func TestKeysAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []any{System{}, IPCP{}, Fact{}, Name{}, Registration{}, Binding{}, Program{}, Process{}, Flow{}, Event{}} {
		typ := reflect.TypeOf(row)
		for i := range typ.NumField() {
			key, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if key == "" || key != strings.ToLower(key) || !strings.Contains(string(doc), "`"+key+"`") {
				t.Errorf("%s.%s: key %q is not in docs/json.md", typ.Name(), typ.Field(i).Name, key)
			}
		}
	}
}

// TestKeysSort: numbers sort as numbers, and a name before its rows.
func TestKeysSort(t *testing.T) {
	if a, b := (Flow{ID: 9}).Key(), (Flow{ID: 10}).Key(); a >= b {
		t.Errorf("%q is not below %q", a, b)
	}
	if a, b := (Binding{Name: "a", PID: 2}).Key(), (Binding{Name: "a b", PID: 1}).Key(); a >= b {
		t.Errorf("%q is not below %q", a, b)
	}
}

// TestOptionsJSON: options are one object in the order of their declaration.
func TestOptionsJSON(t *testing.T) {
	tests := []struct {
		o    Options
		want string
	}{
		{nil, "{}"},
		{Options{{Name: "z", Value: "7", Bare: true}, {Name: "a", Value: "7"}}, `{"z":7,"a":"7"}`},
		{Options{{Name: "e", Value: "0xA000", Bare: true}, {Name: "t", Value: "true", Bare: true}, {Name: "f", Value: "false", Bare: true}}, `{"e":40960,"t":true,"f":false}`},
		{Options{{Name: "a\"b", Value: "\xff\n"}}, `{"a\"b":"\ufffd\n"}`},
	}
	for _, tt := range tests {
		got, err := json.Marshal(tt.o)
		if err != nil || string(got) != tt.want {
			t.Errorf("%v: %s, error %v, want %s", tt.o, got, err, tt.want)
		}
	}
}
