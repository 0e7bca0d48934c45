package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	ossignal "os/signal"
	"path/filepath"
	"strconv"
	"syscall"
)

// webSize is how many bytes the web server of the scenarios serves.
const webSize = 8 << 20

// webserver serves webSize bytes at a Unix socket in the runtime directory.
func webserver() {
	l, err := net.Listen("unix", filepath.Join(os.Getenv("O7S_RUNTIME_DIR"), "web"))
	if err != nil {
		panic(err)
	}
	fmt.Println("serving on", l.Addr())
	go func() {
		panic(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, webBody())
		})))
	}()
	term := make(chan os.Signal, 1)
	ossignal.Notify(term, syscall.SIGTERM)
	<-term
	os.Remove(l.Addr().String())
}

func webBody() io.Reader { return io.LimitReader(rand.New(rand.NewSource(1)), webSize) }

// webclient N fetches what webserver serves, N times at once, and compares.
func webclient() {
	n, _ := strconv.Atoi(os.Args[1])
	want := sha256.New()
	_, _ = io.Copy(want, webBody())
	path := filepath.Join(os.Getenv("O7S_RUNTIME_DIR"), "proxy")
	client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", path)
	}}}
	errs := make(chan error)
	for range n {
		go func() {
			resp, err := client.Get("http://web/")
			if err != nil {
				errs <- err
				return
			}
			defer resp.Body.Close()
			got := sha256.New()
			_, err = io.Copy(got, resp.Body)
			if err == nil && string(got.Sum(nil)) != string(want.Sum(nil)) {
				err = fmt.Errorf("the bytes that came are others")
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			fmt.Fprintln(os.Stderr, "webclient:", err)
			os.Exit(1)
		}
	}
}
