package tutorial

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// readme returns the text of README.md, in which newcomers start.
func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if os.IsNotExist(err) {
		t.Skip("the tests are here without README.md")
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What README.md shows of the tutorial is what it prints.
func TestReadmeTutorial(t *testing.T) {
	_, text, _ := strings.Cut(readme(t), "\n## Tutorial 01")
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

// The program in README.md is the example of package ipc, which is tested.
func TestReadmeProgram(t *testing.T) {
	text := readme(t)
	example, err := os.ReadFile("../../ipc/example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(text, "\nfunc main() {\n")
	program, _, _ = strings.Cut(program, "\n}\n")
	_, tested, ok := strings.Cut(string(example), "\nfunc Example() {\n")
	tested, _, _ = strings.Cut(tested, "\n\t// Output:")
	if !ok || program != tested {
		t.Errorf("the program of README.md:\n%s\nthe example:\n%s", program, tested)
	}
}
