package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"o7s/core/ipcp"
	"o7s/core/ipcp/ipcptest/lossy"
	"o7s/core/ipcp/ipcptest/madeup"
	"o7s/core/ipcp/ipcptest/relay"
)

// testTypes are the layer types of this test binary.
var testTypes = append(slices.Clip(types), relay.Type, lossy.Type, madeup.Type)

// TestTypes: what the layer types declare can be typed, and options of one name
// are all flags or none of them: a word on the command line is read before the
// type is known.
func TestTypes(t *testing.T) {
	kinds := make(map[string]ipcp.Kind)
	names := make(map[string]bool)
	for _, typ := range testTypes {
		if err := typ.Verify(); err != nil {
			t.Error(err)
		}
		if names[typ.Name] {
			t.Errorf("two layer types are called %s", typ.Name)
		}
		names[typ.Name] = true
		for _, o := range typ.Options {
			if k, ok := kinds[o.Name]; ok && (k == ipcp.Flag) != (o.Kind == ipcp.Flag) {
				t.Errorf("option %s of layer type %s: another type has it, and one of them is a flag", o.Name, typ.Name)
			}
			kinds[o.Name] = o.Kind
		}
	}
}

// TestMadeUpIsOneFolder: a layer type with options is known to its own folder
// and to the list of types, here that of the test binary, and to nothing else.
func TestMadeUpIsOneFolder(t *testing.T) {
	folder := filepath.Join("core", "ipcp", "ipcptest", "madeup")
	found := false
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (path == folder || path != "." && strings.HasPrefix(d.Name(), ".")) {
			found = found || path == folder
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || path == "types_test.go" {
			return nil
		}
		src, err := os.ReadFile(path)
		if bytes.Contains(src, []byte("madeup")) {
			t.Errorf("%s knows the made-up layer type", path)
		}
		return err
	})
	if err != nil || !found {
		t.Errorf("found the folder: %v, error %v", found, err)
	}
}
