package ipc_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"o7s/ipc"
)

// A server that sends everything back, and a client of it. WithLayer("*")
// registers the name in every layer, which takes an administrator's rights.
func Example() {
	ctx := context.Background()
	l, err := ipc.Listen(ctx, "echo", ipc.WithLayer("*"))
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go func() {
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
	}()

	c, err := ipc.Dial(ctx, "echo")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("one packet"))
	buf := make([]byte, ipc.MaxPacket)
	n, err := c.Read(buf)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", buf[:n])
	// Output: one packet
}
