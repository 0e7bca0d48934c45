package applets

import (
	"bytes"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestNear(t *testing.T) {
	for _, tt := range []struct {
		word, want string
		near       bool
	}{
		{"ipcp", "ipcp", true},
		{"ipcpp", "ipcp", true},
		{"icpp", "ipcp", true},
		{"bootstrp", "bootstrap", true},
		{"botstrp", "bootstrap", true},
		{"bootsrtap", "bootstrap", true},
		{"btstr", "bootstrap", false},
		{"shwo", "show", true},
		{"foo", "flow", false},
		{"b", "bind", false},
		{"", "a", false},
		{"ö", "o", false},
	} {
		if got := Near(tt.word, tt.want); got != tt.near {
			t.Errorf("Near(%q, %q) is %v", tt.word, tt.want, got)
		}
	}
}

func TestHyphens(t *testing.T) {
	for in, want := range map[string]string{
		"–-help": "--help", "–help": "--help", "—help": "--help", "––help": "--help", "−h": "-h", "–n": "-n",
		"–name=x": "--name=x", "–n=x": "-n=x",
		"--help": "--help", "-–help": "-–help", "a–b": "a–b", "–": "–", "": "", "\xe2": "\xe2",
	} {
		if got := Hyphens(in); got != want {
			t.Errorf("Hyphens(%q) is %q, want %q", in, got, want)
		}
	}
}

// TestDashes: an applet understands a flag whose hyphens have become dashes. Values
// and other arguments stay as they are.
func TestDashes(t *testing.T) {
	for in, want := range map[string]string{
		"–-help":   "x - ",
		"–help":    "x - ",
		"help":     "x - ",
		"version":  "x version " + Version,
		"–n a":     "a",
		"–name=a":  "a",
		"-n –name": "–name",
		"–nam a":   "unexpected argument \"–nam\"",
	} {
		var out bytes.Buffer
		env := &Env{Name: "x", Args: strings.Fields(in), Stdout: &out, Stderr: &out}
		app := Help{}.On(&cli.App{Flags: []cli.Flag{&cli.StringFlag{Name: "name", Aliases: []string{"n"}}}})
		app.Action = func(c *cli.Context) error { out.WriteString(c.String("name")); return nil }
		status(env, CLI(t.Context(), env, app))
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: %q, want %q", in, out.String(), want)
		}
	}
}

func TestCommit(t *testing.T) {
	revision, modified := debug.BuildSetting{Key: "vcs.revision", Value: "0123456789abcdef"}, debug.BuildSetting{Key: "vcs.modified", Value: "true"}
	for want, in := range map[string][]debug.BuildSetting{
		"":                                   {{Key: "GOOS", Value: "linux"}, modified},
		"commit 0123456789ab, ":              {revision},
		"commit 0123456789ab with changes, ": {modified, revision},
	} {
		if got := commitOf(in); got != want {
			t.Errorf("commit %q, want %q", got, want)
		}
	}
}
