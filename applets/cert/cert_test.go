package cert

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"o7s/applets"
	"o7s/applets/internal/pki"
	"o7s/core"
)

func cert(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(context.Background(), &applets.Env{Name: "cert", Args: args, Stdout: &out, Stderr: &out})
	return out.String(), err
}

func certificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pki.Certificates(text)
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

func TestCert(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("O7S_CONFIG_DIR", filepath.Join(dir, "config"))
	security := filepath.Join(dir, "config/security")
	if _, err := cert(t, "issue", "srv"); !errors.Is(err, core.ErrNotFound) || !strings.Contains(err.Error(), "o7s cert ca DIR") {
		t.Errorf("without a CA: %v", err)
	}
	ca := filepath.Join(dir, "ca")
	if out, err := cert(t, "ca", ca); err != nil || !strings.Contains(out, "Copy "+ca+"/ca.pem to") {
		t.Fatal(out, err)
	}
	if _, err := cert(t, "ca", ca); !errors.Is(err, core.ErrExists) {
		t.Errorf("a CA is replaced: %v", err)
	}
	for path, mode := range map[string]os.FileMode{ca + "/ca-key.pem": 0o600, ca + "/ca.pem": 0o644, ca: 0o700} {
		if i, err := os.Stat(path); err != nil || i.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, i.Mode(), err)
		}
	}
	if out, err := cert(t, "issue", "srv", "--days", "10", "--encrypt"); err != nil || !strings.Contains(out, "Flows are encrypted: ") {
		t.Fatal(out, err)
	}
	srv := filepath.Join(security, "server/srv")
	if i, err := os.Stat(srv + "/key.pem"); err != nil || i.Mode().Perm() != 0o600 {
		t.Error(i.Mode(), err)
	}
	c := certificate(t, srv+"/crt.pem")
	roots := x509.NewCertPool()
	trusted, err := filepath.Glob(security + "/cacert/*")
	if err != nil || len(trusted) != 1 {
		t.Fatal(trusted, err)
	}
	roots.AddCert(certificate(t, trusted[0]))
	if _, err := c.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Error(err)
	}
	if left := time.Until(c.NotAfter); c.Subject.CommonName != "srv" || left > 240*time.Hour || left < 239*time.Hour {
		t.Errorf("%v is good for %v", c.Subject, left)
	}
	if _, err := cert(t, "issue", "srv"); !errors.Is(err, core.ErrExists) || !strings.Contains(err.Error(), "--renew") {
		t.Errorf("a certificate is replaced unasked: %v", err)
	}
	if _, err := cert(t, "issue", "srv", "--renew"); err != nil {
		t.Error(err)
	}
	if certificate(t, srv+"/crt.pem").Equal(c) {
		t.Error("--renew changes nothing")
	}
	if _, err := cert(t, "issue", "alice", "--client", "srv"); err != nil {
		t.Error(err)
	}
	if c := certificate(t, filepath.Join(security, "client/srv/crt.pem")); c.Subject.CommonName != "alice" {
		t.Error(c.Subject)
	}
	// A name that can't be a folder's goes to one that is given.
	if _, err := cert(t, "issue", "../../x"); !errors.Is(err, core.ErrUsage) || !strings.Contains(err.Error(), "--dir") {
		t.Error(err)
	}
	if _, err := cert(t, "--dir", filepath.Join(dir, "x"), "issue", "../../x"); err != nil {
		t.Error(err)
	}
	if c := certificate(t, filepath.Join(dir, "x/crt.pem")); c.Subject.CommonName != "../../x" {
		t.Error(c.Subject)
	}
	left, err := filepath.Glob(srv + "/.*")
	if err != nil || len(left) > 0 {
		t.Errorf("%v left behind, %v", left, err)
	}
}

// What is in the way is found before anything is written.
func TestInTheWay(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("O7S_CONFIG_DIR", dir)
	ca, srv := filepath.Join(dir, "ca"), filepath.Join(dir, "security/server/srv")
	if _, err := cert(t, "ca", ca); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(srv, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ file, text, says string }{
		{"crt.pem", "x", "--renew replaces"},
		{"enc.conf", "none\n", "it says none"},
		{"enc.conf", "kex=rot13\n", "rot13"},
	} {
		path := filepath.Join(srv, tt.file)
		if err := os.WriteFile(path, []byte(tt.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := cert(t, "issue", "srv", "--encrypt"); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s %q: %v", tt.file, tt.text, err)
		}
		if _, err := os.Stat(filepath.Join(srv, "key.pem")); err == nil {
			t.Fatalf("%s %q: a key is written all the same", tt.file, tt.text)
		}
		os.Remove(path)
	}
	if err := os.WriteFile(filepath.Join(srv, "enc.conf"), []byte("kex=X25519\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := cert(t, "issue", "srv", "--encrypt"); err != nil || !strings.Contains(out, "Flows are encrypted") {
		t.Error(out, err)
	}
	if text, err := os.ReadFile(filepath.Join(srv, "enc.conf")); string(text) != "kex=X25519\n" {
		t.Errorf("enc.conf is now %q, %v", text, err)
	}
	// A CA's key that others could read signs nothing.
	if err := os.Chmod(filepath.Join(ca, "ca-key.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := cert(t, "issue", "srv", "--renew"); err == nil || !strings.Contains(err.Error(), "other users can read it") {
		t.Error(err)
	}
}

func TestWrongUsage(t *testing.T) {
	t.Setenv("O7S_CONFIG_DIR", t.TempDir())
	for _, tt := range []struct{ args, says string }{
		{"", "cert ca DIR makes a CA"},
		{"ca", "the folder for the CA is missing"},
		{"issue", "the name is missing"},
		{"issue a b", "the name is missing"},
		{"make srv", "cert ca DIR makes a CA"},
		{"issue srv --days 0", "good for 1 to 36500 days"},
		{"issue srv --forever", "there is no flag"},
		{"issue " + strings.Repeat("x", 65), "at most 64 bytes"},
	} {
		if _, err := cert(t, strings.Fields(tt.args)...); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: %v; want %q", tt.args, err, tt.says)
		}
	}
}
