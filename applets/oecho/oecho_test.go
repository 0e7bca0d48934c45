package oecho

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"o7s/applets"
	"o7s/applets/internal/measure"
	"o7s/applets/internal/measure/flowtest"
	"o7s/core"
)

// world is a server of oecho and a network that leads to it.
func world(t *testing.T) (n network, out, errs *flowtest.WholeLines) {
	l := flowtest.NewListener()
	out, errs = &flowtest.WholeLines{T: t}, &flowtest.WholeLines{T: t}
	ctx, cancel := context.WithCancel(t.Context())
	n = network{
		Dial: func(context.Context, string, core.QoS) (measure.Flow, error) {
			c, s := flowtest.Pipe(64, 65)
			l.Flows <- s
			return c, nil
		},
		Listen: func(context.Context) (measure.Listener, error) { return l, nil },
	}
	ended := make(chan error, 1)
	go func() {
		ended <- n.run(ctx, &applets.Env{Name: "oecho", Args: []string{"--listen"}, Stdout: out, Stderr: errs})
	}()
	synctest.Wait() // package cli parses one command line at a time
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return n, out, errs
}

func TestEcho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, out, errs := world(t)
		var stdout bytes.Buffer
		err := n.run(t.Context(), &applets.Env{Name: "oecho", Stdout: &stdout})
		synctest.Wait()
		if err != nil || stdout.String() != "Server replied with Client says hi!\n" {
			t.Errorf("error %v, stdout %q", err, &stdout)
		}
		if want := "Starting the server.\nNew flow.\nMessage from client is Client says hi!.\n"; out.String() != want || errs.String() != "" {
			t.Errorf("stderr %q, stdout %q, want %q", errs, out, want)
		}
	})
}

// What a server makes of clients that are not as they should be.
func TestServer(t *testing.T) {
	tests := []struct {
		name, send, reply string
		out, errs         string
	}{
		{"any bytes come back as they are", "a\nb\x00c", "a\nb\x00c", "Message from client is a\\nb.\n", ""},
		{"256 bytes", strings.Repeat("x", 256), strings.Repeat("x", 256), strings.Repeat("x", 256), ""},
		{"257 bytes", strings.Repeat("x", 257), "", "", "a message of 257 bytes is none of oecho's"},
		{"nothing", "", "", "", "no message in 10s: it is closed"},
		{"a test of operf", string(measure.Control(measure.Hello, 0, nil)), string(measure.Refuse(measure.Control(measure.Hello, 0, nil), "an oecho server")), "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, out, errs := world(t)
				f, _ := n.Dial(t.Context(), "", core.QoSRaw)
				if tt.send != "" {
					f.WritePacket([]byte(tt.send))
				}
				buf := make([]byte, core.MaxPacket)
				got, err := f.ReadPacket(buf)
				if string(buf[:got]) != tt.reply || tt.reply == "" && err != io.EOF {
					t.Errorf("reply %q, %v, want %q", buf[:got], err, tt.reply)
				}
				synctest.Wait()
				if !strings.Contains(out.String(), tt.out) || !strings.Contains(errs.String(), tt.errs) || tt.errs == "" && errs.String() != "" {
					t.Errorf("stdout %q, stderr %q", out, errs)
				}
			})
		})
	}
}

// A client says why it got no reply.
func TestClientFails(t *testing.T) {
	for want, server := range map[string]func(f *flowtest.Flow){
		"no reply from oecho in 10s: is it a server of oecho?": func(*flowtest.Flow) {},
		"no reply from oecho: flow is down":                    func(f *flowtest.Flow) { time.AfterFunc(time.Second, func() { f.Fail(core.ErrFlowDown) }) },
	} {
		synctest.Test(t, func(t *testing.T) {
			f := flowtest.NewFlow(64)
			server(f)
			n := network{Dial: func(context.Context, string, core.QoS) (measure.Flow, error) { return f, nil }}
			err := n.run(t.Context(), &applets.Env{Name: "oecho", Stdout: io.Discard})
			if err == nil || err.Error() != want || !f.IsClosed() {
				t.Errorf("error %v, want %s", err, want)
			}
		})
	}
}
