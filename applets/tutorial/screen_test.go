package tutorial

import (
	"errors"
	"strings"
	"testing"
)

func TestScreen(t *testing.T) {
	var out strings.Builder
	s := newScreen(&out, false, nil)
	s.say("Hello,\nall %d of you.\n\nNow.", 2)
	s.title(1, "Try")
	s.command(irmWindow, "irm")
	s.line(irmdWindow, "100% done")
	s.line(clientWindow, "")
	s.say("%s", strings.Repeat("word ", 20))
	const want = `Hello, all 2 of you.

Now.

Step 1: Try

irm    | $ irm
irmd   | 100% done
client |

word word word word word word word word word word word word word word word
word word word word word
`
	if out.String() != want {
		t.Errorf("screen:\n%s\nwant:\n%s", &out, want)
	}
}

func TestScreenColor(t *testing.T) {
	var out strings.Builder
	newScreen(&out, true, nil).line(irmdWindow, "line")
	if want := "\x1b[36mirmd   |\x1b[0m line\n"; out.String() != want {
		t.Errorf("screen %q, want %q", out.String(), want)
	}
}

type brokenWriter struct{ error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.error }

// A screen that breaks says so once.
func TestScreenBreaks(t *testing.T) {
	broken := errors.New("broken")
	var told []error
	s := newScreen(brokenWriter{broken}, false, func(err error) { told = append(told, err) })
	s.say("one")
	s.say("two")
	if len(told) != 1 || !errors.Is(told[0], broken) || !errors.Is(s.failed(), broken) {
		t.Errorf("told %v, failed %v", told, s.failed())
	}
}

func TestNumber(t *testing.T) {
	for line, want := range map[string]int{
		"==00577== irmd(II): Bootstrapped IPCP 591 in layer local-layer.": 591,
		"==00577== irmd(II): Bootstrapped nothing.":                       0,
		"": 0,
	} {
		if got := number(line, "Bootstrapped IPCP %d"); got != want {
			t.Errorf("number in %q: %d, want %d", line, got, want)
		}
	}
}
