package main

import (
	"bytes"
	"context"
	"testing"
	"time"

	"o7s/ipc/ipctest"
)

func TestHTTP(t *testing.T) {
	s := ipctest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	served := make(chan error, 1)
	serving, stop := context.WithCancel(ctx)
	go func() { served <- serve(serving, "greeter") }()
	var out bytes.Buffer
	for get(ctx, &out, "greeter") != nil { // until it listens
		if ctx.Err() != nil {
			t.Fatal("no server")
		}
	}
	if want := "Hello, this is greeter.\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	client.CloseIdleConnections()
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if known, err := s.Admin.Registrations(ctx); err != nil || len(known) != 0 {
		t.Errorf("still registered: %v, %v", known, err)
	}
}
