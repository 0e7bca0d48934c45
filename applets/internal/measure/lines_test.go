package measure

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

// A line takes the place of the status, which comes back only when shown.
func TestStatus(t *testing.T) {
	var b bytes.Buffer
	s := NewStatus(&b, true)
	l := NewLines(&b, "tool: ")
	l.Above(s)
	s.Show(Progress("9.400 Gb/s", 12*time.Second, time.Minute))
	l.Printf("a line\n")
	l.Failure(errors.New("a\nb"))
	s.Show(Progress("1.000 Gb/s", 13*time.Second, 0))
	s.Close()
	const erase = "\r\x1b[K"
	const want = erase + "9.400 Gb/s, 12s of 1m0s, 48s left" + erase + "tool: a line\ntool: a\\nb\n" +
		erase + "1.000 Gb/s, 13s so far" + erase
	if b.String() != want {
		t.Errorf("%q\nwant %q", b.String(), want)
	}
}

// Where there is no terminal there is no status.
func TestNoStatus(t *testing.T) {
	var b bytes.Buffer
	s := NewStatus(&b, false)
	l := NewLines(&b, "")
	l.Above(s)
	s.Show("x")
	l.Printf("a line\n")
	s.Close()
	if b.String() != "a line\n" {
		t.Errorf("%q", b.String())
	}
}

func TestLinesJSON(t *testing.T) {
	var b bytes.Buffer
	l := NewLines(&b, "")
	v := map[string]int{"a": 1}
	l.JSON(v, false)
	l.JSON(v, true)
	if want := "{\"a\":1}\n{\n  \"a\": 1\n}\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
