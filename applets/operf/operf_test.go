package operf

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"o7s/applets"
	"o7s/applets/internal/measure"
	"o7s/applets/internal/measure/flowtest"
	"o7s/core"
)

// errExit is the error of a run that has told its error.
var errExit = errors.New("exit")

// run runs operf with args, as the multitool does, over n.
func run(ctx context.Context, n network, args ...string) (out, errs string, err error) {
	var stdout, stderr bytes.Buffer
	env := &applets.Env{Name: "operf", Args: args, Stdout: &stdout, Stderr: &stderr}
	if err = n.run(ctx, env); errors.Unwrap(err) == nil && fmt.Sprintf("%T", err) == "applets.statusError" {
		err = errExit
	}
	return stdout.String(), stderr.String(), err
}

// world is a server of operf and a network that leads to it. It is for one
// bubble of synctest.
type world struct {
	l         *flowtest.Listener
	out, errs flowtest.WholeLines
	cancel    func()
	ended     chan error
	toServer  func(write func(p []byte) error) func(p []byte) error // nil: as it is
	fd        int
}

func newWorld(t *testing.T, args ...string) *world {
	ctx, cancel := context.WithCancel(t.Context())
	w := &world{l: flowtest.NewListener(), cancel: cancel, ended: make(chan error, 1), fd: 64}
	w.out.T, w.errs.T = t, t
	n := network{Listen: func(context.Context) (measure.Listener, error) { return w.l, nil }}
	env := &applets.Env{Name: "operf", Args: append([]string{"-l"}, args...), Stdout: &w.out, Stderr: &w.errs}
	go func() { w.ended <- n.run(ctx, env) }()
	synctest.Wait() // package cli parses one command line at a time
	t.Cleanup(func() {
		cancel()
		if err := <-w.ended; err != nil {
			t.Error(err)
		}
	})
	return w
}

// dial returns the client's end of a new flow.
func (w *world) dial(context.Context, string, core.QoS) (measure.Flow, error) {
	c, s := flowtest.Pipe(w.fd, w.fd+1)
	w.fd += 2
	if w.toServer != nil {
		c.OnWrite = w.toServer(c.OnWrite)
	}
	w.l.Flows <- s
	return c, nil
}

func (w *world) network() network { return network{Dial: w.dial} }

// lines returns the lines of s that match pattern.
func lines(s, pattern string) []string {
	return regexp.MustCompile("(?m)^.*"+pattern+".*$").FindAllString(s, -1)
}

func want(t *testing.T, what, s string, count int, pattern string) {
	t.Helper()
	if got := lines(s, pattern); len(got) != count {
		t.Errorf("%s: %d lines match %q, want %d:\n%s", what, len(got), pattern, count, s)
	}
}

// The figures of a test at a rate are exact, and both ends agree on them.
func TestRate(t *testing.T) {
	for _, tt := range []struct {
		args    string
		packets int
	}{
		{"-r 8M -s 1000 -d 3", 3000},
		{"-d 10s", 834}, // 1 Mb/s of 1500 B
		{"-r 8M -s 1000 -d 3 -R", 3000},
		{"-r 80M -s 1000 -d 3000ms -P 3", 30000},
		{"-r 8M -s 1000 -d 3 -t bi", 3000},
		{"-r 12k -d 6", 6}, // a packet each second
	} {
		t.Run(tt.args, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				out, errs, err := run(t.Context(), w.network(), append(strings.Fields(tt.args), "-n", "x")...)
				synctest.Wait()
				if err != nil || errs != "" || w.errs.String() != "" {
					t.Errorf("error %v, stderr %q, the server's %q", err, errs, w.errs.String())
				}
				flows := 1
				if strings.Contains(tt.args, "-P 3") {
					flows = 3
				}
				for what, s := range map[string]string{"client": out, "server": w.out.String()} {
					want(t, what, s, flows, fmt.Sprintf(`\[ +\d+\] .* %d       -       -  sender, CPU`, tt.packets))
					want(t, what, s, flows, fmt.Sprintf(`\[ +\d+\] .* %d       0       0  receiver, 0%% lost, CPU`, tt.packets))
				}
				if strings.Contains(tt.args, "bi") {
					want(t, "client", out, 1, fmt.Sprintf(` %d       0       0  echo, 0%% lost`, tt.packets))
				}
				if flows == 3 {
					want(t, "client", out, 1, `\[ sum\] .* 90000       0       0  receiver`)
					want(t, "client", out, 3+2, `\[ sum\]   [012].00-`+"[123].00")
				}
			})
		})
	}
}

// Each interval has its share, to 1 %.
func TestIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "-i", "500ms")
		out, _, _ := run(t.Context(), w.network(), "-r", "80M", "-s", "1000", "-d", "4", "-i", "2", "-n", "x")
		synctest.Wait()
		want(t, "client", out, 2, `(19[89]..|20[012]..) +- +-$`)
		want(t, "server", w.out.String(), 8, `(49[5-9].|50[0-5].) +0 +0$`)
	})
}

// A layer that drops and reorders: what is lost and late is known exactly, at
// both ends, whichever of the flow's first packets it meets after the Hello.
func TestLossAndOrder(t *testing.T) {
	tests := []struct {
		name       string
		every, at  int  // of so many packets, this one
		swap       bool // comes after the next one; else it is lost
		lost, late int
	}{
		{"one of ten is lost", 10, 3, false, 100, 0},
		{"one of ten is late", 10, 3, true, 0, 100},
		{"the last packets are lost", 1000, 0, false, 1, 0},
		{"the end overtakes the last packet", 1000, 0, true, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.toServer = func(write func([]byte) error) func([]byte) error {
					n := 0
					var held []byte
					return func(p []byte) error {
						if n++; n > 1 && (n-1)%tt.every == tt.at {
							if tt.swap {
								held = p
							}
							return nil
						}
						err := write(p)
						if held != nil {
							err, held = write(held), nil
						}
						return err
					}
				}
				out, errs, err := run(t.Context(), w.network(), "-r", "8M", "-s", "1000", "-d", "1", "-n", "x")
				synctest.Wait()
				if err != nil || errs != "" {
					t.Errorf("error %v, stderr %q", err, errs)
				}
				pattern := fmt.Sprintf(` %d %7d %7d  receiver, %s%% lost`, 1000-tt.lost, tt.lost, tt.late, measure.Percent(float64(tt.lost)/10))
				want(t, "client", out, 1, pattern)
				want(t, "server", w.out.String(), 1, pattern)
			})
		})
	}
}

// The base form: a four-byte type, a pause, data, silence.
func TestBaseClient(t *testing.T) {
	for _, typ := range []uint32{typeUni, typeBi} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			f, _ := w.dial(t.Context(), "x", core.QoSRaw)
			f.WritePacket(binary.LittleEndian.AppendUint32(nil, typ))
			time.Sleep(time.Second)
			p := make([]byte, 100)
			for n := range uint32(500) {
				binary.LittleEndian.PutUint32(p, n)
				if n != 77 {
					f.WritePacket(p)
				}
				time.Sleep(4 * time.Millisecond)
			}
			echoes := 0
			f.SetReadDeadline(time.Now())
			time.Sleep(1100 * time.Millisecond)
			synctest.Wait()
			want(t, "server", w.out.String(), 1, ` 499       1       0  receiver, 0.2% lost`)
			want(t, "server", w.out.String(), 1, `Flow 65 timed out.`)
			f.SetReadDeadline(time.Time{})
			for {
				if _, err := f.ReadPacket(p); err == io.EOF {
					break
				}
				echoes++
			}
			if wantEchoes := int(typ) * 499; echoes != wantEchoes {
				t.Errorf("type %d: %d packets came back, want %d", typ, echoes, wantEchoes)
			}
		})
	}
}

// A server of the base form gets data a second after the first packet, whose
// first word is the type, and nothing else.
func TestBaseServer(t *testing.T) {
	for _, typ := range []string{"uni", "bi"} {
		synctest.Test(t, func(t *testing.T) {
			f := flowtest.NewFlow(64)
			var at []time.Duration
			start := time.Now()
			hellos, data := 0, uint32(0)
			f.OnWrite = func(p []byte) error {
				if measure.IsControl(p) {
					hellos++
					if want := map[string]uint32{"uni": 0, "bi": 1}[typ]; binary.LittleEndian.Uint32(p) != want {
						t.Errorf("the first word is % x", p[:4])
					}
				} else {
					if len(p) != 200 || binary.LittleEndian.Uint32(p) != data || !bytes.Equal(p[4:], make([]byte, 196)) {
						t.Errorf("data packet %d is % x", data, p)
					}
					data++
					at = append(at, time.Since(start))
				}
				if typ == "bi" {
					f.Deliver(p)
				}
				return nil
			}
			n := network{Dial: func(context.Context, string, core.QoS) (measure.Flow, error) { return f, nil }}
			out, errs, err := run(t.Context(), n, "-t", typ, "-r", "16k", "-s", "200", "-d", "2", "-n", "x")
			const notice = "operf: x did not answer: it is taken for a server of the base form, which reports nothing\n"
			if err != nil || errs != notice || data != 20 || at[0] != time.Second || at[10] != 2*time.Second {
				t.Errorf("error %v, stderr %q, %d packets at %v", err, errs, data, at)
			}
			want(t, "client", out, 1, ` 20       -       -  sender`)
			if typ == "bi" {
				want(t, "client", out, 1, ` 20       0       0  echo, 0% lost`)
			}
		})
	}
}

// Whom a client meets that is no server for it, and what it says then.
func TestRefused(t *testing.T) {
	answer := func(f *flowtest.Flow, p func(hello []byte) []byte) {
		f.OnWrite = func(q []byte) error {
			if a := p(q); a != nil {
				f.Deliver(a)
			}
			return nil
		}
	}
	tests := []struct {
		name   string
		server func(f *flowtest.Flow)
		args   string
		want   string
	}{
		{"another tool", func(f *flowtest.Flow) {
			answer(f, func(p []byte) []byte { return measure.Refuse(p, "an oping server") })
		}, "", "x refused the test: it is an oping server"},
		{"an echo", func(f *flowtest.Flow) { answer(f, func(p []byte) []byte { return p }) }, "", "x gave an answer that is none of operf's"},
		{"it closes the flow", func(f *flowtest.Flow) {
			f.OnWrite = func([]byte) error { f.Fail(io.EOF); return nil }
		}, "", "x closed the flow before the test was over: is it a server of operf?"},
		{"no answer", func(f *flowtest.Flow) {}, "-R", "x did not answer: --reverse needs a server of this operf"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := flowtest.NewFlow(64)
				tt.server(f)
				n := network{Dial: func(context.Context, string, core.QoS) (measure.Flow, error) { return f, nil }}
				out, _, err := run(t.Context(), n, append(strings.Fields(tt.args), "-n", "x")...)
				if err == nil || !strings.HasPrefix(err.Error(), tt.want) || out != "" || !f.IsClosed() {
					t.Errorf("error %v, want %s; stdout %q", err, tt.want, out)
				}
			})
		})
	}
}

// A server that runs a test refuses a second one and says why; it takes one
// again when that is over. Another program's flow is closed.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		first := make(chan error, 1)
		go func() {
			_, _, err := run(t.Context(), w.network(), "-r", "1M", "-d", "5", "-n", "x")
			first <- err
		}()
		synctest.Wait()
		time.Sleep(2 * time.Second)
		_, _, err := run(t.Context(), w.network(), "-d", "1", "-n", "x")
		if want := "x refused the test: the server is busy with another test; try again later"; err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
		f, _ := w.dial(t.Context(), "x", core.QoSRaw)
		f.WritePacket(make([]byte, 64)) // a ping
		if _, err := f.ReadPacket(make([]byte, 64)); err != io.EOF {
			t.Errorf("another program's flow: error %v, want EOF", err)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
		if _, _, err := run(t.Context(), w.network(), "-d", "1", "-n", "x"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		want(t, "server", w.errs.String(), 1, `operf: flow 67: refused: another test is running`)
		want(t, "server", w.errs.String(), 1, `operf: flow 69: its first packet, of 64 bytes, is none of operf's: it is closed`)
	})
}

// An interrupt ends a test in order: the figures are told, at both ends.
func TestInterrupt(t *testing.T) {
	for _, args := range []string{"", "-R", "-t bi"} {
		t.Run(args, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				ctx, cancel := context.WithTimeout(t.Context(), 2050*time.Millisecond)
				defer cancel()
				start := time.Now()
				out, errs, err := run(ctx, w.network(), append(strings.Fields(args), "-r", "8M", "-s", "1000", "-n", "x")...)
				synctest.Wait()
				if took := time.Since(start); err != nil || errs != "" || took > 2400*time.Millisecond {
					t.Errorf("error %v after %v, stderr %q", err, took, errs)
				}
				want(t, "client", out, 1, ` 20\d\d       0       0  receiver`)
				want(t, "server", w.out.String(), 1, ` 20\d\d       0       0  receiver`)
			})
		})
	}
}

// A server that is stopped ends its flows and says what it saw; the client
// fails and says what it knows. Where the server sends, it ends in order.
func TestServerStops(t *testing.T) {
	for args, want := range map[string]string{"": "operf: x closed the flow before the test was over\n", "-R": ""} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			time.AfterFunc(1500*time.Millisecond, w.cancel)
			out, errs, err := run(t.Context(), w.network(), append(strings.Fields(args), "-r", "8M", "-s", "1000", "-n", "x")...)
			if (err == nil) != (want == "") || errs != want || len(lines(out, `- - - -`)) != 1 {
				t.Errorf("%q: error %v, stderr %q, stdout:\n%s", args, err, errs, out)
			}
		})
	}
}
