package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"

	"o7s/core"
	"o7s/ipc"
)

// reader NAME accepts one flow to NAME, says up when a packet has come, and waits
// for the end. It ends with status 0 where that is an end, of whatever kind.
func reader() {
	l, err := ipc.Listen(context.Background(), os.Args[1], ipc.WithLayer("*"))
	exitIf(err)
	c, err := l.Accept()
	exitIf(err)
	awaitEnd(c.(*ipc.Conn))
}

// writer NAME [QOS] dials NAME, sends a packet and waits for the end.
func writer() {
	qos := core.QoSRaw
	if len(os.Args) > 2 {
		qos, _ = core.QoSByName(os.Args[2])
	}
	c, err := ipc.Dial(context.Background(), os.Args[1], ipc.WithQoS(qos))
	exitIf(err)
	exitIf(c.WritePacket([]byte("hello")))
	awaitEnd(c)
}

func awaitEnd(c *ipc.Conn) {
	buf := make([]byte, ipc.MaxPacket)
	for {
		_, err := c.ReadPacket(buf)
		switch {
		case err == nil:
			fmt.Println("up")
		case errors.Is(err, io.EOF), errors.Is(err, core.ErrFlowDown):
			fmt.Println(err)
			os.Exit(0)
		default:
			exitIf(err)
		}
	}
}

func exitIf(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// crowd N COMMAND... runs a command N times at once. It fails unless all succeed.
func crowd() {
	n, err := strconv.Atoi(os.Args[1])
	exitIf(err)
	errs := make(chan error, n)
	for range n {
		go func() {
			out, err := exec.Command(os.Args[2], os.Args[3:]...).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			errs <- err
		}()
	}
	for range n {
		if e := <-errs; e != nil {
			err = e
		}
	}
	exitIf(err)
}
