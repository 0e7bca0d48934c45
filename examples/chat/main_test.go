package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"o7s/ipc/ipctest"
)

// person is a client of the room.
type person struct {
	say   *io.PipeWriter
	hears chan string // closed when the person has left
	left  chan error
}

func enter(ctx context.Context) *person {
	in, say := io.Pipe()
	lines, out := io.Pipe()
	p := &person{say: say, hears: make(chan string, 1000), left: make(chan error, 1)}
	go func() {
		err := talk(ctx, "room", in, out)
		out.Close()
		p.left <- err
	}()
	go func() {
		defer close(p.hears)
		for s := bufio.NewScanner(lines); s.Scan(); {
			p.hears <- s.Text()
		}
	}()
	return p
}

// waitFor waits until p hears line, and reports whether it did before p left.
func (p *person) waitFor(ctx context.Context, line string) bool {
	for {
		select {
		case heard, ok := <-p.hears:
			if !ok || heard == line {
				return ok
			}
		case <-ctx.Done():
			return false
		}
	}
}

func TestChat(t *testing.T) {
	s := ipctest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	served := make(chan error, 1)
	serving, stop := context.WithCancel(ctx)
	go func() { served <- serve(serving, "room") }()
	for !strings.Contains(s.Log(), "Registered room") {
		if time.Sleep(time.Millisecond); ctx.Err() != nil {
			t.Fatal("no server")
		}
	}
	alice, bob := enter(ctx), enter(ctx)
	for _, p := range []struct {
		from, to *person
		line     string
	}{{alice, bob, "hello"}, {bob, alice, "hello alice"}, {alice, bob, "goodbye"}} {
		// A client that is heard is in the room. Until then its line is sent again.
		again := time.NewTicker(50 * time.Millisecond)
		heard := make(chan bool, 1)
		go func() { heard <- p.to.waitFor(ctx, p.line) }()
	saying:
		for {
			if _, err := io.WriteString(p.from.say, p.line+"\n"); err != nil {
				t.Fatal(err)
			}
			select {
			case ok := <-heard:
				if !ok {
					t.Fatalf("%q was not heard", p.line)
				}
				break saying
			case <-again.C:
			}
		}
		again.Stop()
	}
	alice.say.Close() // the end of alice's input
	if err := <-alice.left; err != nil {
		t.Errorf("alice left with %v", err)
	}
	stop() // the room closes
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := <-bob.left; err != nil {
		t.Errorf("bob left with %v", err)
	}
	if known, err := s.Admin.Registrations(ctx); err != nil || len(known) != 0 {
		t.Errorf("still registered: %v, %v", known, err)
	}
}
