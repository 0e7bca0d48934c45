package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var fuzzTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(f \*testing\.F\)`)

// Every fuzz target has seeds of its own in the tree, and there are none of a
// target that is no more: nothing would run them.
func TestFuzzTargetsHaveSeeds(t *testing.T) {
	const least = 10
	targets := make(map[string]bool) // the folders of their seeds
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range fuzzTarget.FindAllStringSubmatch(string(src), -1) {
			dir := filepath.Join(filepath.Dir(path), "testdata", "fuzz", m[1])
			targets[dir] = true
			if seeds, _ := os.ReadDir(dir); len(seeds) < least {
				t.Errorf("%s has %d seeds in %s, and should have %d", m[1], len(seeds), dir, least)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(targets) < 8 {
		t.Errorf("only %d targets found: this tests nothing", len(targets))
	}
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && filepath.Base(filepath.Dir(path)) == "fuzz" && !targets[path] {
			t.Errorf("%s has seeds of no target", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
