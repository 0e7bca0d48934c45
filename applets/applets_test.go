package applets

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStatus(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want int
		say  string
	}{
		{"done", nil, StatusDone, ""},
		{"failed", errors.New("no luck"), StatusFailed, "x: no luck\n"},
		{"usage", Usagef("no flag %q", "-z"), StatusUsage, "x: no flag \"-z\"\n"},
		{"said already", Exit(StatusFailed), StatusFailed, ""},
		{"what does not print", errors.New("a\nb\x1b"), StatusFailed, "x: a\\nb\\x1b\n"},
	}
	for _, tt := range tests {
		var stderr bytes.Buffer
		if got := status(&Env{Name: "x", Stderr: &stderr}, tt.err); got != tt.want || stderr.String() != tt.say {
			t.Errorf("%s: status %d and %q, want %d and %q", tt.name, got, stderr.String(), tt.want, tt.say)
		}
	}
}

func TestTwoAppletsOfOneName(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	Main([]string{"o7s"}, []Applet{{Name: "a"}, {Name: "a"}})
}

func TestInstallLeavesOthersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bin")
	table := []Applet{{Name: "irm"}, {Name: "ipcpd-local", Hidden: true}}
	var out bytes.Buffer
	for range 2 { // again is as good as once
		if err := install(&out, dir, table); err != nil {
			t.Fatal(err)
		}
	}
	if to, err := os.Readlink(filepath.Join(dir, "irm")); err != nil || to != "o7s" {
		t.Errorf("irm -> %q, %v", to, err)
	}
	if fi, err := os.Stat(filepath.Join(dir, "o7s")); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("o7s: %v, %v", fi, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "ipcpd-local")); err == nil {
		t.Error("a hidden applet is installed")
	}
	mine := filepath.Join(dir, "mine")
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := install(&out, dir, []Applet{{Name: "mine"}}); err == nil || !strings.Contains(err.Error(), "is no symlink: remove it first") {
		t.Errorf("over a file: %v", err)
	}
	if b, _ := os.ReadFile(mine); string(b) != "mine" {
		t.Error("a file of another's is replaced")
	}
	left, _ := filepath.Glob(filepath.Join(dir, ".o7s-*"))
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
