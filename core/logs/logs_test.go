package logs

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
)

// writes records each Write apart.
type writes []string

func (w *writes) Write(p []byte) (int, error) {
	*w = append(*w, string(p))
	return len(p), nil
}

func TestOneWriteALineInTheTutorialsForm(t *testing.T) {
	var w writes
	l := New(Options{Writer: &w, Level: slog.LevelDebug}).With("ipcpd/ipcp")
	l.Debugf("Flow %d.", 0)
	l.Infof("Bootstrapping...")
	l.Warnf("w")
	l.Errorf("e")
	for i, want := range []string{"(DB): Flow 0.", "(II): Bootstrapping...", "(WW): w", "(EE): e"} {
		want = fmt.Sprintf("==%05d== ipcpd/ipcp%s\n", os.Getpid(), want)
		if i >= len(w) || w[i] != want {
			t.Fatalf("writes %q, want %q at %d", w, want, i)
		}
	}
}

func TestLevelGatesAndMoves(t *testing.T) {
	var w writes
	var level slog.LevelVar
	l := New(Options{Writer: &w, Level: &level}).With("irmd")
	l.Debugf("not yet")
	level.Set(slog.LevelDebug)
	l.Debugf("now")
	if len(w) != 1 || !strings.Contains(w[0], "now") {
		t.Errorf("got %q", w)
	}
}

func TestNobodyForgesALine(t *testing.T) {
	var w writes
	New(Options{Writer: &w}).With("irmd").Infof("Created new name: %s.", "x\n==00001== irmd(II): Bye.\x1b[2J\xff")
	if len(w) != 1 || strings.Count(w[0], "\n") != 1 || strings.IndexByte(w[0], 0x1b) >= 0 || strings.IndexByte(w[0], 0xff) >= 0 {
		t.Errorf("got %q", w)
	}
	if !strings.Contains(w[0], `x\n==00001== irmd(II): Bye.\x1b[2J\xff.`) {
		t.Errorf("got %q", w)
	}
}

func TestEscapeKeepsWhatPrints(t *testing.T) {
	for in, want := range map[string]string{
		"naïve 名前 ★": "naïve 名前 ★", "a'b\"c\\": "a'b\"c\\", "\t": `\t`, "\u202e": `\u202e`, "\ufffd": "\ufffd",
	} {
		if got := Escape(in); got != want {
			t.Errorf("Escape(%q): %q, want %q", in, got, want)
		}
	}
}

func TestWord(t *testing.T) {
	for in, want := range map[string]string{
		"oping-server": "oping-server", "": "''", "two words": "'two words'", "naïve": "'naïve'", `$x\n`: `'$x\n'`,
		"it's": `'it'\''s'`, "a\tb": `$'a\tb'`, "it's\n\\n": `$'it\'s\n\\n'`, "\x1b": `$'\x1b'`,
	} {
		if got := Word(in); got != want {
			t.Errorf("Word(%q): %s, want %s", in, got, want)
		}
	}
}

func TestJSON(t *testing.T) {
	var w writes
	New(Options{Writer: &w, JSON: true}).With("irmd").Infof("A \"b\"\n")
	var m map[string]any
	if err := json.Unmarshal([]byte(w[0]), &m); err != nil || m["component"] != "irmd" || m["level"] != "II" || m["msg"] != "A \"b\"\n" {
		t.Errorf("%q: %v, %v", w, m, err)
	}
}
