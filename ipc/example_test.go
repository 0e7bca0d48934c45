package ipc_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

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

// A flow is a net.Conn and a Listener a net.Listener, so net/http runs over
// them: the host of a URL is a name of the network.
func Example_http() {
	ctx := context.Background()
	l, err := ipc.Listen(ctx, "greeter", ipc.WithLayer("*"))
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello, %s!", r.URL.Query().Get("name"))
	}))

	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, // one flow for each request
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			name, _, _ := net.SplitHostPort(addr) // net/http adds a port
			return ipc.Dial(ctx, name)
		},
	}}
	r, err := client.Get("http://greeter/?name=flow")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", body)
	// Output: Hello, flow!
}
