// Http runs net/http over flows: a flow is a net.Conn, and the host of a URL is a name.
//
//	http -listen greeter      serve the name greeter, in all layers
//	http greeter              get a page from it
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"

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
		err = get(ctx, os.Stdout, flag.Arg(0))
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// serve serves name until ctx ends, and then takes the name out of the layers.
func serve(ctx context.Context, name string) error {
	l, err := ipc.Listen(ctx, name, ipc.WithLayer("*"))
	if err != nil {
		return err
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello, this is %s.\n", r.Host)
	})}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	err = s.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, l.Withdraw(context.WithoutCancel(ctx)))
}

// client does requests over flows. QoSData keeps packets in order and loses none, on
// other systems too.
var client = &http.Client{Transport: &http.Transport{
	DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		name, _, err := net.SplitHostPort(addr) // net/http adds a port
		if err != nil {
			return nil, err
		}
		return ipc.Dial(ctx, name, ipc.WithQoS(ipc.QoSData))
	},
}}

// get writes the page of name to out.
func get(ctx context.Context, out io.Writer, name string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+name+"/", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(out, resp.Body)
	return err
}
