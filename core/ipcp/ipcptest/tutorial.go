package ipcptest

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"

	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/logs"
)

// Tutorial plays Tutorial 01's part of an IPCP of type typ and checks its log
// against that of the IPCP in the file golden.
func Tutorial(t *testing.T, typ ipcp.Type, golden string) {
	b, err := os.ReadFile(golden)
	must(t, "read the golden log", err)
	var want []string
	for line := range strings.Lines(string(b)) {
		if line, ok := strings.CutPrefix(line, "==IPCP== "); ok {
			want = append(want, strings.Replace(line, "ipcpd-local", "ipcpd-"+typ.Name, 1))
		}
	}

	var log bytes.Buffer
	h := newHost(t, false)
	p, cancel, wait := startProcess(typ, h, logs.New(logs.Options{Writer: &log, Level: slog.LevelDebug}))
	h.ctl = p
	ctx := context.Background()
	oping := hash.SHA3_256.Sum("oping-server")
	_, err = p.Bootstrap(ctx, ipcp.Config{Layer: "local-layer", Hash: hash.SHA3_256})
	must(t, "bootstrap", err)
	must(t, "register", p.Register(ctx, oping))
	client, server := h.connect(t, oping)
	h.end(t, client, server)
	cancel()
	must(t, "end Run", wait())

	var got []string
	for line := range strings.Lines(log.String()) {
		_, line, _ = strings.Cut(strings.TrimPrefix(line, "=="), "== ")
		got = append(got, line)
	}
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Fatalf("line %d is missing: %q", i, want[i])
		case i >= len(want):
			t.Fatalf("line %d is too much: %q", i, got[i])
		case got[i] != want[i]:
			t.Fatalf("line %d: %q, want %q", i, got[i], want[i])
		}
	}
}
