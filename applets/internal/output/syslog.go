package output

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Syslog is the Destination that this system's syslog is. A line has the form
// of SyslogLine. The standard library's log/syslog waits for a syslogd that
// does not read, and has no way to send what goes at once.
type Syslog struct {
	mu   sync.Mutex // guards conn, not its use
	conn *net.UnixConn
}

// syslogPaths are the places where syslogs listen.
var syslogPaths = []string{"/dev/log", "/var/run/syslog", "/var/run/log"}

// OpenSyslog connects to syslog. The error says that there is none.
func OpenSyslog() (*Syslog, error) {
	s := new(Syslog)
	return s, s.connect()
}

func (s *Syslog) connect() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
	for _, network := range []string{"unixgram", "unix"} {
		for _, path := range syslogPaths {
			c, err := net.DialUnix(network, nil, &net.UnixAddr{Name: path, Net: network})
			if err == nil {
				s.conn = c
				return nil
			}
		}
	}
	return errors.New("no syslog listens on this system")
}

// Try implements Destination. It leaves errors to Write.
func (s *Syslog) Try(line []byte) (n int, err error) {
	s.mu.Lock()
	c := s.conn
	s.mu.Unlock()
	if c == nil {
		return 0, nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, nil
	}
	_ = raw.Write(func(fd uintptr) bool {
		n, err = unix.SendmsgN(int(fd), line, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return true
	})
	return max(0, n), nil
}

// Write implements Destination. It connects again to a syslog that was started
// anew.
func (s *Syslog) Write(line []byte) (int, error) {
	s.mu.Lock()
	c := s.conn
	s.mu.Unlock()
	if c != nil {
		if n, err := c.Write(line); err == nil {
			return n, nil
		}
	}
	if err := s.connect(); err != nil {
		return 0, err
	}
	return s.conn.Write(line)
}

// Close ends the connection.
func (s *Syslog) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// SyslogLine returns text as a line for syslog, from the daemon tag.
func SyslogLine(level slog.Level, tag, text string) []byte {
	const daemon = 3 << 3
	severity := 3
	switch {
	case level < slog.LevelInfo:
		severity = 7
	case level < slog.LevelWarn:
		severity = 6
	case level < slog.LevelError:
		severity = 4
	}
	return fmt.Appendf(nil, "<%d>%s %s[%d]: %s\n", daemon|severity, time.Now().Format(time.Stamp), tag, os.Getpid(), text)
}
