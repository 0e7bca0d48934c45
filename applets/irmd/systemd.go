package irmd

import (
	_ "embed"
	"fmt"
	"net"
	"os"
	"strings"

	"o7s/core/logs"
)

// unit is what "irmd --systemd-unit" prints. EXE stands for the path of this
// executable, which the shell gets as a word of its own.
//
//go:embed o7s.service
var unit string

// systemdUnit returns the unit file that starts this irmd.
func systemdUnit() string {
	exe, err := os.Executable()
	if err != nil {
		exe = "/usr/local/bin/o7s"
	}
	return unitFor(exe)
}

// unitFor returns the unit file that starts the irmd of the executable exe.
func unitFor(exe string) string {
	return strings.Replace(unit, " EXE\n", " "+unitWord(exe)+"\n", 1)
}

// unitWord returns s as one word of a command line in a unit file, by the rules
// of systemd.service(5), "Command lines", and systemd.syntax(7), "Quoting".
func unitWord(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"', c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '%', c == '$': // a specifier, a variable
			b.WriteByte(c)
			b.WriteByte(c)
		case c < ' ', c > '~':
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// notifier tells the service manager the state of irmd. The zero value sends
// nothing.
type notifier struct {
	socket string
	log    *logs.Logger
}

// newNotifier takes NOTIFY_SOCKET out of the environment: irmd uses it, its
// children must not.
func newNotifier(log *logs.Logger) notifier {
	n := notifier{os.Getenv("NOTIFY_SOCKET"), log}
	os.Unsetenv("NOTIFY_SOCKET")
	return n
}

// tell sends the service manager a state: READY=1, STOPPING=1.
func (n notifier) tell(state string) {
	if n.socket == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err == nil {
		_, err = c.Write([]byte(state))
		c.Close()
	}
	if err != nil {
		n.log.Warnf("Failed to tell the service manager %s: %v.", state, err)
	}
}
