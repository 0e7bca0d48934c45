// Package schematest checks JSON against the schemas in the documents. It knows
// of JSON Schema what those use and refuses the rest.
package schematest

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Schema is one schema, or a part of one.
type Schema struct {
	root, node map[string]any
}

// Load returns the schema called name of a document: the block of JSON after
// "<!-- schema: name -->".
func Load(document, name string) (*Schema, error) {
	b, err := os.ReadFile(document)
	if err != nil {
		return nil, err
	}
	_, rest, ok := strings.Cut(string(b), "<!-- schema: "+name+" -->\n```json\n")
	text, _, end := strings.Cut(rest, "```")
	if !ok || !end {
		return nil, fmt.Errorf("%s has no schema %q", document, name)
	}
	s := &Schema{}
	if err := json.Unmarshal([]byte(text), &s.root); err != nil {
		return nil, fmt.Errorf("schema %q: %w", name, err)
	}
	s.node = s.root
	return s, nil
}

// Def returns the part that $defs has under name.
func (s *Schema) Def(name string) (*Schema, error) {
	defs, _ := s.root["$defs"].(map[string]any)
	node, ok := defs[name].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("no $defs has %q", name)
	}
	return &Schema{s.root, node}, nil
}

// Check returns why the JSON text is not as s says.
func (s *Schema) Check(text []byte) error {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	return s.check("$", s.node, v)
}

func (s *Schema) check(at string, node map[string]any, v any) error {
	for key, want := range node {
		var err error
		switch key {
		case "$schema", "$defs", "title", "description", "properties":
		case "$ref":
			name, _ := strings.CutPrefix(want.(string), "#/$defs/")
			var def *Schema
			if def, err = s.Def(name); err == nil {
				err = s.check(at, def.node, v)
			}
		case "type":
			err = checkType(at, want, v)
		case "const":
			err = checkEnum(at, []any{want}, v)
		case "enum":
			err = checkEnum(at, want.([]any), v)
		case "minimum":
			if n, ok := v.(float64); ok && n < want.(float64) {
				err = fmt.Errorf("%s is %v, below %v", at, n, want)
			}
		case "required":
			err = checkRequired(at, want.([]any), v)
		case "items":
			if list, ok := v.([]any); ok {
				for i := 0; i < len(list) && err == nil; i++ {
					err = s.check(fmt.Sprintf("%s[%d]", at, i), want.(map[string]any), list[i])
				}
			}
		case "additionalProperties":
			err = s.checkProperties(at, node, v)
		default:
			err = fmt.Errorf("a schema with %q at %s", key, at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkProperties is for schemas that name all properties there may be.
func (s *Schema) checkProperties(at string, node map[string]any, v any) error {
	object, ok := v.(map[string]any)
	if !ok {
		return nil // its type says more
	}
	properties, _ := node["properties"].(map[string]any)
	for key, value := range object {
		p, ok := properties[key].(map[string]any)
		if !ok {
			return fmt.Errorf("%s has %q, which the schema does not", at, key)
		}
		if err := s.check(at+"."+key, p, value); err != nil {
			return err
		}
	}
	return nil
}

func checkRequired(at string, keys []any, v any) error {
	object, ok := v.(map[string]any)
	if !ok {
		return nil // its type says more
	}
	for _, key := range keys {
		if _, ok := object[key.(string)]; !ok {
			return fmt.Errorf("%s has no %q", at, key)
		}
	}
	return nil
}

func checkEnum(at string, values []any, v any) error {
	if !slices.Contains(values, v) {
		return fmt.Errorf("%s is %v, none of %v", at, v, values)
	}
	return nil
}

func checkType(at string, want, v any) error {
	types, ok := want.([]any)
	if !ok {
		types = []any{want}
	}
	is := ""
	switch v := v.(type) {
	case nil:
		is = "null"
	case string:
		is = "string"
	case bool:
		is = "boolean"
	case []any:
		is = "array"
	case map[string]any:
		is = "object"
	case float64:
		if is = "number"; v == float64(int64(v)) && slices.Contains(types, any("integer")) {
			is = "integer"
		}
	}
	if !slices.Contains(types, any(is)) {
		return fmt.Errorf("%s is of type %s, want %v", at, is, types)
	}
	return nil
}
