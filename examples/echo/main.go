// Echo sends a packet over a flow to a server that sends it back. Both ends are in this
// program. It needs an IRMd with a layer, and its administrator's rights.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"

	"o7s/ipc"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	l, err := ipc.Listen(ctx, "echo", ipc.WithLayer("*"))
	if err != nil {
		return err
	}
	defer l.Close()
	go serve(l)

	c, err := ipc.Dial(ctx, "echo")
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.WritePacket([]byte("one packet")); err != nil {
		return err
	}
	p := make([]byte, ipc.MaxPacket)
	n, err := c.ReadPacket(p)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", p[:n])
	return err
}

func serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // l is closed
		}
		go func() {
			defer c.Close()
			io.Copy(c, c)
		}()
	}
}
