package schematest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	doc := filepath.Join(t.TempDir(), "doc.md")
	const text = "# A\n<!-- schema: x -->\n```json\n" + `{
  "type": "object", "required": ["a"], "additionalProperties": false,
  "properties": {
    "a": {"type": "integer", "minimum": 0},
    "b": {"enum": ["x", "y"]},
    "c": {"type": "array", "items": {"$ref": "#/$defs/d"}}
  },
  "$defs": {"d": {"type": ["number", "null"]}}
}` + "\n```\n"
	if err := os.WriteFile(doc, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	s, err := Load(doc, "x")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ json, want string }{
		{`{"a": 1}`, ""},
		{`{"a": 1, "b": "y", "c": [1.5, null]}`, ""},
		{`{"b": "y"}`, `$ has no "a"`},
		{`{"a": 1.5}`, "$.a is of type number"},
		{`{"a": -1}`, "$.a is -1, below 0"},
		{`{"a": 1, "b": "z"}`, "$.b is z, none of"},
		{`{"a": 1, "z": 1}`, `$ has "z", which the schema does not`},
		{`{"a": 1, "c": ["x"]}`, "$.c[0] is of type string"},
		{`[]`, "$ is of type array"},
		{`{`, "unexpected end"},
	}
	for _, tt := range tests {
		err := s.Check([]byte(tt.json))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.json, err, tt.want)
		}
	}
	if _, err := Load(doc, "y"); err == nil {
		t.Error("a schema that is not there is loaded")
	}
}
