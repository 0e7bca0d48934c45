package irm

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDeviationsHaveScenarios: what docs/irm.md says is shown by a scenario is
// shown by one that there is.
func TestDeviationsHaveScenarios(t *testing.T) {
	top := filepath.Join("..", "..")
	doc, err := os.ReadFile(filepath.Join(top, "docs", "irm.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(doc)) {
		cells := strings.Split(strings.Trim(line, "|\n "), " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) != 3 || cells[2] == "shown by" {
			continue
		}
		rows++
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(cells[2], -1) {
			_, err := os.Stat(filepath.Join(top, "testdata", m[1]+".txtar"))
			if err != nil { // one between systems
				_, err = os.Stat(filepath.Join(top, "testdata", "net", m[1]+".txtar"))
			}
			if err != nil && m[1] != "core" {
				t.Errorf("%q: %v", cells[0], err)
			}
		}
	}
	if rows < 40 {
		t.Errorf("%d rows only", rows)
	}
}
