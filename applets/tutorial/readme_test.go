package tutorial

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// page returns the text of a file of the tree, in which newcomers start.
func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", name))
	if os.IsNotExist(err) {
		t.Skipf("the tests are here without %s", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What docs/tutorial.md shows of the tutorial is what it prints.
func TestTutorialPage(t *testing.T) {
	_, text, _ := strings.Cut(page(t, "docs/tutorial.md"), "\n## Tutorial 01")
	text, _, _ = strings.Cut(text, "\n## ")
	roles := findRoles(text)
	if len(roles) != 4 {
		t.Errorf("the pids have the roles %v", roles)
	}
	for name, lines := range map[string]string{
		"irmd":         `==\d+== `,
		"oping-server": `Ouroboros ping server|New flow |Received |Flow 64`,
		"oping-client": `Pinging |64 bytes|--- |\d packets|rtt `,
	} {
		found := regexp.MustCompile(`(?m)^(`+lines+`).*$`).FindAllString(text, -1)
		if more := compare(t, name, normalize(found, roles)); len(more) > 0 {
			t.Errorf("%s: more lines than the tutorial has: %q", name, more)
		}
	}
	for pid, role := range roles {
		if want := "$ irm bind process " + pid + " name oping-server\n"; role == "SERVER" && !strings.Contains(text, want) {
			t.Errorf("no line %q", want)
		}
	}
}

// The programs in README.md and docs/programs.md are those of examples/, which are
// tested.
func TestPrograms(t *testing.T) {
	programs := page(t, "examples/echo/main.go") + page(t, "examples/echo/main_test.go") + page(t, "examples/http/main.go")
	for name, n := range map[string]int{"README.md": 2, "docs/programs.md": 1} {
		blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(page(t, name), -1)
		for _, b := range blocks {
			if !strings.Contains(programs, "\n"+b[1]) {
				t.Errorf("%s: this is in none of the examples:\n%s", name, b[1])
			}
		}
		if len(blocks) != n {
			t.Errorf("%s has %d programs, want %d", name, len(blocks), n)
		}
	}
}

// README.md is short, and the pages that it and the others name are there. It names
// every page of docs/.
func TestPages(t *testing.T) {
	readme := page(t, "README.md")
	if n := strings.Count(readme, "\n"); n > 250 {
		t.Errorf("README.md has %d lines", n)
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 8 {
		t.Fatalf("%v, pages %q", err, pages)
	}
	for _, p := range pages {
		if !strings.Contains(readme, "](docs/"+filepath.Base(p)+")") {
			t.Errorf("README.md names no docs/%s", filepath.Base(p))
		}
	}
	for _, p := range append(pages, "../../README.md", "../../CONTRIBUTING.md", "../../CHANGELOG.md") {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`).FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(p), m[1])); err != nil {
				t.Errorf("%s: %v", p, err)
			}
		}
	}
}
