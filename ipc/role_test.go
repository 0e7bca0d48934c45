package ipc_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"o7s/core"
	"o7s/ipc"
)

// roles are what other processes of a test do, by the name that they are
// started under. They tell the test by lines on stdout, and end when stdin
// does.
var roles = map[string]func(ctx context.Context, args []string) error{
	"test-echo":        echoRole,
	"test-client":      clientRole,
	"test-bound":       boundRole,
	"test-dial":        dialRole,
	"test-hold":        holdRole,
	"test-deaf":        deafRole,
	"test-words":       wordsRole,
	"test-admin":       adminRole,
	"test-limit":       limitRole,
	"test-try":         tryRole,
	"test-sink":        sinkRole,
	"test-poser":       poserRole,
	"test-life":        lifeRole,
	"test-connect":     connectRole,
	"test-thief":       thiefRole,
	"test-flows":       flowsRole,
	"test-idle":        idleRole,
	"test-idle-server": idleServerRole,
	"test-idle-client": idleClientRole,
	"test-work":        workRole,
	"test-outsider":    outsiderRole,
	"test-hang":        hangRole,
}

// said is what the test says to a process, line by line.
var said = make(chan string, 10)

func runRole(role func(context.Context, []string) error) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for s := bufio.NewScanner(os.Stdin); s.Scan(); {
			said <- s.Text()
		}
		cancel()
	}()
	if err := role(ctx, os.Args[1:]); err != nil {
		fmt.Println("error:", err)
		return 1
	}
	return 0
}

// echoRole serves its name: it answers every packet with itself. With a second
// argument it goes on when the IRMd goes.
func echoRole(ctx context.Context, args []string) error {
	l, err := ipc.Listen(ctx, args[0])
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	fmt.Println("listens", os.Getpid())
	for {
		c, err := l.AcceptFlow()
		if errors.Is(err, core.ErrIRMd) && len(args) > 1 {
			continue
		}
		if err != nil {
			return nil
		}
		go echo(c)
	}
}

// boundRole is echoRole for the names that are bound to it.
func boundRole(ctx context.Context, _ []string) error { return echoRole(ctx, []string{""}) }

// echo answers until the end, and returns when the flow is deallocated.
func echo(c *ipc.Conn) error {
	defer c.Deallocate(context.Background())
	p := make([]byte, ipc.MaxPacket)
	for {
		n, err := c.ReadPacket(p)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = c.WritePacket(p[:n])
		}
		if err != nil {
			return err
		}
	}
}

// clientRole dials its name and does nothing more.
func clientRole(ctx context.Context, args []string) error {
	c, err := ipc.Dial(ctx, args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println("dialed", c.ID())
	<-ctx.Done()
	return nil
}

// dialStride is how many flows dialRole has between two words.
const dialStride = 250

// dialRole dials its name so often and closes each flow. It is done when the last
// one is deallocated.
func dialRole(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if len(args) > 2 { // wait for the word
		<-said
	}
	for i := range n {
		c, err := ipc.Dial(ctx, args[0])
		if err != nil {
			return fmt.Errorf("flow %d: %w", i, err)
		}
		end := c.Close
		if i == n-1 {
			end = func() error { return c.Deallocate(ctx) }
		}
		if err := end(); err != nil {
			return fmt.Errorf("close flow %d: %w", i, err)
		}
		if (i+1)%dialStride == 0 {
			fmt.Println("so far", i+1)
		}
	}
	fmt.Println("done")
	return nil
}

// sinkRole reads all of one flow at a time, and answers its end with a packet.
func sinkRole(ctx context.Context, args []string) error {
	l, err := ipc.Listen(ctx, args[0])
	if err != nil {
		return err
	}
	fmt.Println("listens")
	p := make([]byte, ipc.MaxPacket)
	for {
		c, err := l.AcceptFlow()
		if err != nil {
			return err
		}
		for err == nil {
			_, err = c.ReadPacket(p)
		}
		if err := c.WritePacket([]byte("all")); err != nil {
			fmt.Println(err)
		}
		c.Close()
	}
}

// holdRole accepts and does nothing more.
func holdRole(ctx context.Context, args []string) error {
	l, err := ipc.Listen(ctx, args[0])
	if err != nil {
		return err
	}
	fmt.Println("listens")
	for {
		if _, err := l.AcceptFlow(); err != nil {
			return err
		}
		fmt.Println("accepted")
	}
}

// deafRole listens and never accepts.
func deafRole(ctx context.Context, args []string) error {
	if _, err := ipc.Listen(ctx, args[0]); err != nil {
		return err
	}
	fmt.Println("listens")
	<-ctx.Done()
	return nil
}

// wordsRole writes ten packets and waits.
func wordsRole(ctx context.Context, args []string) error {
	c, err := ipc.Dial(ctx, args[0])
	if err != nil {
		return err
	}
	for i := range 10 {
		if err := c.WritePacket([]byte(fmt.Sprint("word ", i))); err != nil {
			return err
		}
	}
	fmt.Println("wrote")
	<-ctx.Done()
	return nil
}

// role starts a process of a test and waits for its first word.
func (w *world) role(t testing.TB, name, word string, args ...string) *process {
	t.Helper()
	return w.roleAs(t, name, word, nil, args...)
}

func (w *world) roleAs(t testing.TB, name, word string, attr *syscall.SysProcAttr, args ...string) *process {
	t.Helper()
	p, err := start(name, w.dir, attr, args...)
	must(t, err)
	t.Cleanup(func() {
		if err := p.stop(); err != nil && !isSignal(err) {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("%s:\n%s", name, strings.Join(p.lines, "\n"))
		}
	})
	if _, err := p.word(word); err != nil {
		t.Fatal(err)
	}
	return p
}

// isSignal reports whether a process was ended by a signal: those of the
// tests do not handle SIGTERM.
func isSignal(err error) bool {
	e, ok := errors.AsType[*exec.ExitError](err)
	return ok && e.Sys().(syscall.WaitStatus).Signaled()
}

// asNobody makes a process another user's.
func asNobody() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}
