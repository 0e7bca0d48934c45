package view

import (
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
	for _, row := range []any{System{}, IPCP{}, Name{}, Registration{}, Binding{}, Program{}, Process{}, Flow{}, Event{}} {
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
