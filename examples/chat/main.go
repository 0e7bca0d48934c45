// Chat passes what each client says to all others. Its server waits for all flows with
// one goroutine, by a FlowSet.
//
//	chat -listen room      serve the name room, in all layers
//	chat room              send each line, print what others send
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"time"

	"o7s/ipc"
)

func main() {
	listen := flag.String("listen", "", "serve `NAME`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch {
	case *listen != "" && flag.NArg() == 0:
		err = serve(ctx, *listen)
	case *listen == "" && flag.NArg() == 1:
		err = talk(ctx, flag.Arg(0), os.Stdin, os.Stdout)
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

// slow is how long the room waits for a client that does not read.
const slow = time.Second

// serve serves name until ctx ends, and then takes the name out of the layers.
func serve(ctx context.Context, name string) error {
	l, err := ipc.Listen(ctx, name, ipc.WithLayer("*"))
	if err != nil {
		return err
	}
	defer l.Close()
	defer l.Withdraw(context.WithoutCancel(ctx))
	set, err := ipc.NewFlowSet()
	if err != nil {
		return err
	}
	defer set.Close()

	// One goroutine accepts flows, this one serves them all.
	arrived := make(chan *ipc.Conn)
	go func() {
		defer close(arrived)
		for {
			c, err := l.AcceptFlow()
			if err != nil {
				return // l is closed
			}
			select {
			case arrived <- c:
			case <-ctx.Done():
				c.Close()
				return
			}
		}
	}()
	room := make(map[*ipc.Conn]bool)
	leave := func(c *ipc.Conn) {
		delete(room, c)
		c.Close()
	}
	defer func() {
		for c := range room {
			c.Close()
		}
	}()
	p := make([]byte, ipc.MaxPacket)
	for {
		select {
		case <-ctx.Done():
			return nil
		case c, ok := <-arrived:
			if !ok {
				return errors.New("the listener has ended")
			}
			if err := set.Add(c); err != nil {
				c.Close()
				continue
			}
			room[c] = true
		case <-set.Ready():
			for from := set.Next(); from != nil; from = set.Next() {
				n, err := from.ReadPacket(p) // does not wait
				if err != nil {
					leave(from)
					continue
				}
				for c := range room {
					if c == from {
						continue
					}
					c.SetWriteDeadline(time.Now().Add(slow))
					if err := c.WritePacket(p[:n]); err != nil {
						leave(c)
					}
				}
			}
		}
	}
}

// talk sends the lines of in to name, and writes to out what others send, until one of
// both ends.
func talk(ctx context.Context, name string, in io.Reader, out io.Writer) error {
	c, err := ipc.Dial(ctx, name, ipc.WithQoS(ipc.QoSData))
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	go func() {
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			if len(lines.Bytes()) == 0 {
				continue // a packet has at least one byte
			}
			if c.WritePacket(lines.Bytes()) != nil {
				return
			}
		}
		c.Close()
	}()
	p := make([]byte, ipc.MaxPacket)
	for {
		n, err := c.ReadPacket(p)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		if _, err := fmt.Fprintf(out, "%s\n", p[:n]); err != nil {
			return err
		}
	}
}
