package ipc_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/gob"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What runs over a net.Conn runs over a flow, unchanged.
func TestProtocols(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, tt := range []struct {
			name string
			run  func(*testing.T, *world)
		}{
			{"io.Copy", testCopy},
			{"gob", testGob},
			{"http", testHTTP},
			{"tls", testTLS},
		} {
			t.Run(tt.name, func(t *testing.T) { tt.run(t, w) })
		}
		w.empty(t)
	})
}

func testCopy(t *testing.T, w *world) {
	a, b := w.pair(t, "copy")
	const size = 5<<20 + 3
	sum := sha256.New()
	sent := async(func() error {
		_, err := io.Copy(a, io.TeeReader(io.LimitReader(rand.Reader, size), sum))
		if err == nil {
			err = a.CloseWrite()
		}
		return err
	})
	got := sha256.New()
	n, err := io.Copy(got, b)
	must(t, err)
	must(t, result(t, "copy", sent))
	if n != size || !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
		t.Errorf("%d bytes came of %d, or others", n, size)
	}
}

func testGob(t *testing.T, w *world) {
	type message struct {
		N    int
		Text string
		Data []byte
	}
	a, b := w.pair(t, "gob")
	const n = 100
	sent := async(func() error {
		enc := gob.NewEncoder(a)
		for i := range n {
			if err := enc.Encode(message{i, strings.Repeat("text", i), make([]byte, 1000*i)}); err != nil {
				return err
			}
		}
		return nil
	})
	dec := gob.NewDecoder(b)
	for i := range n {
		var m message
		must(t, dec.Decode(&m))
		if m.N != i || len(m.Text) != 4*i || len(m.Data) != 1000*i {
			t.Fatalf("message %d has %d, %d and %d bytes", i, m.N, len(m.Text), len(m.Data))
		}
	}
	must(t, result(t, "encode", sent))
}

// httpClient returns a client whose hosts are names of the network.
func httpClient(w *world) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return w.node.Dial(ctx, host)
		},
	}}
}

func testHTTP(t *testing.T, w *world) {
	w.register(t, "web")
	l := w.listen(t, "web")
	srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.RemoteAddr, "flow ") {
			t.Errorf("the client's address is %q", r.RemoteAddr)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(rw, "%s %s", r.URL.Path, body)
	})}
	served := async(func() error { return srv.Serve(l) })
	c := httpClient(w)
	bodies := make(chan error, 10)
	for i := range cap(bodies) {
		go func() {
			body := strings.Repeat("body", 50000*i)
			r, err := c.Post(fmt.Sprintf("http://web/%d", i), "text/plain", strings.NewReader(body))
			if err != nil {
				bodies <- err
				return
			}
			defer r.Body.Close()
			got, err := io.ReadAll(r.Body)
			if want := fmt.Sprintf("/%d %s", i, body); err == nil && string(got) != want {
				err = fmt.Errorf("request %d: %d bytes, want %d", i, len(got), len(want))
			}
			bodies <- err
		}()
	}
	for range cap(bodies) {
		must(t, result(t, "post", bodies))
	}
	must(t, srv.Shutdown(wait(t)))
	fails(t, "serve", result(t, "serve", served), http.ErrServerClosed)
	c.CloseIdleConnections()
}

func testTLS(t *testing.T, w *world) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"secret"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(cert)

	a, b := w.pair(t, "secret")
	server := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	client := tls.Client(a, &tls.Config{RootCAs: roots, ServerName: "secret"})
	echoed := async(func() error {
		_, err := io.Copy(server, server)
		if err == nil {
			err = server.Close()
		}
		return err
	})
	data := fill(make([]byte, 1<<20), 5)
	sent := async(func() error {
		_, err := client.Write(data)
		if err == nil {
			err = client.CloseWrite()
		}
		return err
	})
	got, err := io.ReadAll(client)
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back of %d, or others", len(got), len(data))
	}
	must(t, result(t, "write", sent))
	must(t, result(t, "echo", echoed))
	must(t, client.Close())
	if _, err := client.Read(got); err == nil {
		t.Error("a closed connection can be read")
	}
}

// A server's accept loop outlives the IRMd's restart: that error is
// temporary.
func TestHTTPServerOutlivesIRMd(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "web")
		l := w.listen(t, "web")
		srv := &http.Server{
			Handler:  http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "served") }),
			ErrorLog: log.New(io.Discard, "", 0), // it tells of the IRMd's end
		}
		served := async(func() error { return srv.Serve(l) })
		get := func() (string, error) {
			c := httpClient(w)
			defer c.CloseIdleConnections()
			r, err := c.Get("http://web/")
			if err != nil {
				return "", err
			}
			defer r.Body.Close()
			b, err := io.ReadAll(r.Body)
			return string(b), err
		}
		text, err := get()
		if text != "served" || err != nil {
			t.Fatalf("%q, %v", text, err)
		}
		w.kill()
		must(t, within(patience, w.gone))
		w.restart(t)
		w.setUp(t)
		w.register(t, "web")
		must(t, dialUntil(t, w, "web").Close())
		text, err = get()
		if text != "served" || err != nil {
			t.Errorf("after the restart: %q, %v", text, err)
		}
		srv.Close()
		fails(t, "serve", result(t, "serve", served), http.ErrServerClosed)
	})
}
