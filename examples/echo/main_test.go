package main

import (
	"bytes"
	"testing"

	"o7s/ipc/ipctest"
)

func TestEcho(t *testing.T) {
	ipctest.Start(t)
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil || out.String() != "one packet\n" {
		t.Errorf("printed %q, %v", out.String(), err)
	}
}
