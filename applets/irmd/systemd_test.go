package irmd

import (
	"net"
	"os"
	"path/filepath"
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
