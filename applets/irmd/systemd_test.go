package irmd

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"o7s/core/logs"
)

func TestNotify(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "n")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	n := newNotifier(logs.Discard())
	if _, ok := os.LookupEnv("NOTIFY_SOCKET"); ok {
		t.Error("irmd's children inherit NOTIFY_SOCKET")
	}
	var buf [64]byte
	for _, state := range []string{"READY=1", "STOPPING=1"} {
		n.tell(state)
		if k, err := c.Read(buf[:]); err != nil || string(buf[:k]) != state {
			t.Errorf("got %q, error %v, want %q", buf[:k], err, state)
		}
	}
	notifier{}.tell("READY=1") // nobody there
}

// oddNames are folders whose names mean something to systemd or to a shell.
var oddNames = []string{
	"plain", "two words", "100%h", "%%", "$HOME", "${HOME}", "a;b", ";", `it's`, `say "x"`, `back\\slash`, `\x41`, "tab\there", "line\nfeed",
	"naïve 名前", "-x", "'", "#", "@", "!", "\x7f",
}

// words splits a command line of a unit file as systemd.service(5) says.
func words(t *testing.T, line string) (out []string) {
	t.Helper()
	for line = strings.TrimLeft(line, " "); line != ""; line = strings.TrimLeft(line, " ") {
		var b strings.Builder
		quote := byte(0)
		for ; line != "" && (quote != 0 || line[0] != ' '); line = line[1:] {
			switch c := line[0]; {
			case c == quote:
				quote = 0
			case quote == 0 && (c == '\'' || c == '"'):
				quote = c
			case c == '\\' && len(line) > 3 && line[1] == 'x':
				n, err := strconv.ParseUint(line[2:4], 16, 8)
				if err != nil {
					t.Fatal(err)
				}
				b.WriteByte(byte(n))
				line = line[3:]
			case c == '\\' && len(line) > 1 && strings.IndexByte(`\"'`, line[1]) >= 0:
				b.WriteByte(line[1])
				line = line[1:]
			case (c == '%' || c == '$') && len(line) > 1 && line[1] == c:
				b.WriteByte(c)
				line = line[1:]
			case c == '%', c == '$', c == '\\':
				t.Fatalf("%q means something to systemd", line)
			default:
				b.WriteByte(c)
			}
		}
		if quote != 0 {
			t.Fatal("a quotation mark is open at the end")
		}
		out = append(out, b.String())
	}
	return out
}

// execStart returns the command line of a unit file.
func execStart(t *testing.T, unit string) string {
	t.Helper()
	for line := range strings.Lines(unit) {
		if s, ok := strings.CutPrefix(line, "ExecStart="); ok {
			return strings.TrimSuffix(s, "\n")
		}
	}
	t.Fatal("no ExecStart")
	return ""
}

// The unit starts this irmd, whatever its path.
func TestUnitStartsAnyPath(t *testing.T) {
	base := t.TempDir()
	for _, name := range oddNames {
		exe := filepath.Join(base, name, "o7s")
		if err := errors.Join(os.Mkdir(filepath.Dir(exe), 0o755), os.WriteFile(exe, []byte("#!/bin/sh\necho \"it is $*\"\n"), 0o755)); err != nil {
			t.Fatal(err)
		}
		argv := words(t, execStart(t, unitFor(exe)))
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "it is irmd") {
			t.Errorf("%q: %q, %v", name, out, err)
		}
	}
}

// systemd itself takes the unit.
func TestSystemdTakesTheUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not on this system: the rules are checked by TestUnitStartsAnyPath alone")
	}
	dir := t.TempDir()
	var files []string
	for i, name := range oddNames {
		file := filepath.Join(dir, "o7s-"+strconv.Itoa(i)+".service")
		text := unitFor("/opt/" + name + "/o7s")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	out, err := exec.Command(analyze, append([]string{"verify"}, files...)...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, dir) || strings.Contains(line, "o7s-") {
			t.Errorf("systemd-analyze says: %s", line)
		}
	}
	if err != nil {
		t.Errorf("systemd-analyze verify: %v, %s", err, out)
	}
}
