package irmd

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/applets"
	"o7s/applets/cert"
	"o7s/core"
	"o7s/core/crypt"
	"o7s/core/oap"
	"o7s/core/settings"
)

// certify runs the applet cert with the configuration in dir.
func certify(t *testing.T, dir string, args ...string) {
	t.Helper()
	t.Setenv("O7S_CONFIG_DIR", dir)
	var out bytes.Buffer
	if err := cert.Applet().Run(context.Background(), &applets.Env{Name: "cert", Args: args, Stdout: &out, Stderr: &out}); err != nil {
		t.Fatal(err, out.String())
	}
}

func put(t *testing.T, mode os.FileMode, text string, path ...string) string {
	t.Helper()
	p := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p, mode); err != nil {
		t.Fatal(err)
	}
	return p
}

func link(t *testing.T, to string, path ...string) {
	t.Helper()
	p := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, p); err != nil {
		t.Fatal(err)
	}
}

// shake does a handshake between what two systems have configured.
func shake(client, server *security, name string) (c, s *oap.Session, err error) {
	asks, err := client.Client(name, settings.Files{})
	if err != nil {
		return nil, nil, err
	}
	answers, err := server.Server(name, settings.Files{})
	if err != nil {
		return nil, nil, err
	}
	a, request, err := oap.Ask(asks, name, time.Now())
	if err != nil {
		return nil, nil, err
	}
	reply, s, err := oap.Answer(answers, name, request, time.Now(), new(oap.Replay))
	if err != nil {
		return nil, nil, err
	}
	c, err = a.Finish(reply, time.Now())
	return c, s, err
}

// What the applet cert makes is what irmd reads, and irmd sees each change.
func TestSecurity(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	client, server := newSecurity(a), newSecurity(b)
	if client.Configured() || newSecurity("").Configured() {
		t.Error("an empty folder is a configuration")
	}
	if c, s, err := shake(client, server, "srv"); err != nil || c.Cipher != 0 || s.Cipher != 0 {
		t.Fatal(c, s, err)
	}
	ca := filepath.Join(t.TempDir(), "ca")
	certify(t, b, "ca", ca)
	certify(t, b, "issue", "srv", "--encrypt")
	if !server.Configured() {
		t.Error("what cert has made is no configuration")
	}
	if _, _, err := shake(client, server, "srv"); !errors.Is(err, core.ErrCrypt) {
		t.Errorf("a plain client: %v", err)
	}
	put(t, 0o644, "", a, "security/client/srv/enc.conf")
	if _, _, err := shake(client, server, "srv"); !errors.Is(err, core.ErrAuth) {
		t.Errorf("a client without a CA: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(ca, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, 0o644, string(text), a, "security/cacert/ca.pem")
	if c, s, err := shake(client, server, "srv"); err != nil || c.Peer != "srv" || s.Peer != "" || c.Cipher != crypt.AES256GCM || *c.Key != *s.Key {
		t.Error(c, s, err)
	}
	certify(t, b, "issue", "--dir", filepath.Join(a, "security/client/srv"), "alice")
	if c, s, err := shake(client, server, "srv"); err != nil || c.Peer != "srv" || s.Peer != "alice" {
		t.Error(c, s, err)
	}
	// Another name is not concerned.
	if c, s, err := shake(client, server, "other"); err != nil || c.Cipher != 0 || s.Peer != "" {
		t.Error(c, s, err)
	}
	// The certificate of another name.
	certify(t, b, "issue", "other", "--dir", filepath.Join(b, "security/server/srv"), "--renew")
	if _, _, err := shake(client, server, "srv"); !errors.Is(err, core.ErrAuth) || !strings.Contains(err.Error(), `the certificate of "other"`) {
		t.Error(err)
	}
	if err := os.RemoveAll(filepath.Join(b, "security/server/srv")); err != nil {
		t.Fatal(err)
	}
	if _, s, err := shake(client, server, "srv"); err != nil || s.Peer != "alice" {
		t.Error(s, err)
	}
}

// A file that is there and can't be used is an error that names it.
func TestBadFiles(t *testing.T) {
	good := t.TempDir()
	certify(t, good, "ca", filepath.Join(good, "ca"))
	certify(t, good, "issue", "srv")
	certify(t, good, "issue", "other")
	read := func(path ...string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(append([]string{good, "security"}, path...)...))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	crt, key := read("server/srv/crt.pem"), read("server/srv/key.pem")
	for _, tt := range []struct {
		what string
		make func(dir string) // dir: security/server/srv
		says string
	}{
		{"another key", func(d string) {
			put(t, 0o600, read("server/other/key.pem"), d, "key.pem")
			put(t, 0o644, crt, d, "crt.pem")
		}, "not that of the certificate"},
		{"a key that others can read", func(d string) { put(t, 0o644, key, d, "key.pem"); put(t, 0o644, crt, d, "crt.pem") }, "other users can read it (mode 0644): chmod 600 "},
		{"a key that the group can read", func(d string) { put(t, 0o640, key, d, "key.pem"); put(t, 0o644, crt, d, "crt.pem") }, "other users can read it"},
		{"no key", func(d string) { put(t, 0o644, crt, d, "crt.pem") }, "its private key key.pem is not"},
		{"no certificate", func(d string) { put(t, 0o600, key, d, "key.pem") }, "its certificate crt.pem is not"},
		{"a key in place of the certificate", func(d string) { put(t, 0o600, key, d, "key.pem"); put(t, 0o644, key, d, "crt.pem") }, "crt.pem: it holds PRIVATE KEY, not a certificate"},
		{"an empty key", func(d string) { put(t, 0o600, "", d, "key.pem"); put(t, 0o644, crt, d, "crt.pem") }, "key.pem: it holds no PEM block"},
		{"a key with a passphrase", func(d string) {
			put(t, 0o600, strings.ReplaceAll(key, "PRIVATE", "ENCRYPTED PRIVATE"), d, "key.pem")
			put(t, 0o644, crt, d, "crt.pem")
		}, "not a private key without a passphrase"},
		{"X448", func(d string) { put(t, 0o644, "kex=X448\n", d, "enc.conf") }, "enc.conf: line 1: invalid value for kex: there is no X448 here, there are prime256v1, X25519"},
		{"a folder", func(d string) { put(t, 0o644, "", d, "enc.conf/x") }, "enc.conf is no regular file"},
		{"a FIFO", func(d string) {
			os.MkdirAll(d, 0o755)
			if err := syscall.Mkfifo(filepath.Join(d, "enc.conf"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "enc.conf is no regular file"},
		{"a huge file", func(d string) {
			p := put(t, 0o644, "", d, "enc.conf")
			if err := os.Truncate(p, maxSecret+1); err != nil {
				t.Fatal(err)
			}
		}, "enc.conf has more than"},
		{"a link to itself", func(d string) {
			os.MkdirAll(d, 0o755)
			if err := os.Symlink("enc.conf", filepath.Join(d, "enc.conf")); err != nil {
				t.Fatal(err)
			}
		}, "too many levels of symbolic links"},
		{"a link to nothing", func(d string) { link(t, "nowhere", d, "enc.conf") }, "enc.conf is a symbolic link to a file that is not there"},
		{"a folder that is a link to nothing", func(d string) { link(t, "nowhere", d) }, "srv is a symbolic link to a file that is not there"},
		{"a folder that is a file", func(d string) { put(t, 0o644, "", d) }, "srv is no folder"},
		{"two KEM keys", func(d string) { put(t, 0o600, "x", d, "kex.key.raw"); put(t, 0o600, "x", d, "kex.key.pem") }, "a name has one KEM key"},
		{"a CA that is a link to nothing", func(d string) { link(t, "nowhere", d, "../../cacert/ca.pem") }, "ca.pem is a symbolic link"},
		{"CAs that are a link to nothing", func(d string) { link(t, "nowhere", d, "../../cacert") }, "cacert is a symbolic link"},
		{"no folder of names", func(d string) { put(t, 0o644, "", d, "..") }, "server is no folder"},
		{"a link in place of all", func(d string) { link(t, "nowhere", d, "../..") }, "security is a symbolic link"},
		{"a CA that is none", func(d string) { put(t, 0o644, "hello", d, "../../cacert/README") }, "README: it holds no PEM block"},
		{"an intermediate that is none", func(d string) { put(t, 0o644, key, d, "../../untrusted/x.pem") }, "x.pem: it holds PRIVATE KEY"},
		{"a KEM key that is none", func(d string) { put(t, 0o600, key, d, "kex.key.pem") }, "use ML-KEM-768"},
		{"a KEM key that others can read", func(d string) { put(t, 0o644, "x", d, "kex.key.raw") }, "other users can read it"},
		{"a raw KEM key of another form", func(d string) { put(t, 0o600, strings.Repeat("x", 2432), d, "kex.key.raw") }, "is a seed of 96 bytes, this has 2432"},
	} {
		dir := t.TempDir()
		tt.make(filepath.Join(dir, "security/server/srv"))
		s := newSecurity(dir)
		for range 2 { // what is remembered too
			c, err := s.Server("srv", settings.Files{})
			if err == nil || c != nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %v; want %q", tt.what, err, tt.says)
			}
		}
		if !s.Configured() {
			t.Errorf("%s: nothing is configured", tt.what)
		}
		if _, err := os.Lstat(filepath.Join(dir, "security/server/srv")); err != nil {
			continue // it is not of this name alone
		}
		if c, err := s.Server("other", settings.Files{}); c != nil || err != nil {
			t.Errorf("%s: another name has %v, %v", tt.what, c, err)
		}
	}
}

// A folder for all configurations that can't be reached hides what is in it.
func TestNoConfigFolder(t *testing.T) {
	for what, make := range map[string]func(dir string){
		"symbolic link": func(dir string) { link(t, "nowhere", dir) },
		"is no folder":  func(dir string) { put(t, 0o644, "", dir) },
	} {
		dir := filepath.Join(t.TempDir(), "config")
		s := newSecurity(dir)
		if c, err := s.Client("srv", settings.Files{}); s.Configured() || c != nil || err != nil {
			t.Errorf("without a folder: %v, %v", c, err)
		}
		make(dir)
		if _, err := s.Client("srv", settings.Files{}); !s.Configured() || err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What is wrong with a file is over once the file is right, also where its time and
// size are as before.
func TestMendedFile(t *testing.T) {
	dir := t.TempDir()
	path := put(t, 0o644, "kex=X448..", dir, "security/server/srv/enc.conf")
	when := time.Now()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chtimes(path, when, when))
	changed := func(path string) syscall.Timespec {
		i, err := os.Stat(path)
		must(err)
		return i.Sys().(*syscall.Stat_t).Ctim
	}
	s := newSecurity(dir)
	for i, tt := range []struct {
		text string
		kex  oap.Kex
	}{{"kex=X448..", 0}, {"kex=X25519", oap.X25519}, {"kex=P-384 ", oap.P384}} {
		for was := changed(path); changed(path) == was; { // the clock of files has ticks of some ms
			must(os.WriteFile(path, []byte(tt.text), 0o644))
			must(os.Chtimes(path, when, when))
		}
		c, err := s.Server("srv", settings.Files{})
		if tt.kex == 0 && err == nil || tt.kex != 0 && (err != nil || c.Suite.Kex != tt.kex) {
			t.Errorf("text %d: %v, %v", i, c, err)
		}
	}
}

// A private key of another user's is one that this user can change or read.
func TestForeignKey(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	dir := t.TempDir()
	certify(t, dir, "ca", filepath.Join(dir, "ca"))
	certify(t, dir, "issue", "srv")
	s := newSecurity(dir)
	if _, err := s.Server("srv", settings.Files{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, "security/server/srv/key.pem"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Server("srv", settings.Files{}); err == nil || !strings.Contains(err.Error(), "belongs to the user 65534") {
		t.Error(err)
	}
}

// A name is never part of a path unless it may be a folder's.
func TestNamesThatArePaths(t *testing.T) {
	dir := t.TempDir()
	put(t, 0o644, "none", dir, "security/server/x/enc.conf")
	put(t, 0o644, "kex=rot13", dir, "security/enc.conf")
	put(t, 0o644, "kex=rot13", dir, "enc.conf")
	put(t, 0o644, "kex=rot13", dir, "security/server/enc.conf")
	s := newSecurity(dir)
	for _, name := range []string{"..", ".", "../..", "../server", "x/../..", "/", "", "a b", "x\x00", strings.Repeat("../", 50) + dir[1:]} {
		if c, err := s.Server(name, settings.Files{}); c != nil || err != nil {
			t.Errorf("%q: %v, %v", name, c, err)
		}
	}
	// A folder that somebody has made for such a name is not passed over.
	for _, name := range []string{"a b", "a/b", "a/b/"} {
		put(t, 0o644, "kex=rot13", dir, "security/server", name, "enc.conf")
		if _, err := s.Server(name, settings.Files{}); err == nil || !strings.Contains(err.Error(), "letters, digits") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if c, err := s.Server("a/c", settings.Files{}); c != nil || err != nil {
		t.Errorf("%v, %v", c, err)
	}
	// Such a name has its files in the configuration file.
	enc := put(t, 0o644, "kex=X25519", dir, "elsewhere")
	if c, err := s.Server("../..", settings.Files{Enc: enc}); err != nil || c.Suite.Kex != oap.X25519 {
		t.Errorf("%v, %v", c, err)
	}
	if _, err := s.Server("../..", settings.Files{Enc: enc + "x"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A key encapsulation whose key the client has.
func TestKEMFiles(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	seed := bytes.Repeat([]byte{7}, 64)
	for _, k := range []struct {
		kex oap.Kex
		oid byte
	}{{oap.MLKEM768, 2}, {oap.MLKEM1024, 3}} {
		// PKCS #8 as OpenSSL writes it: the seed, or the seed and the expanded key.
		for _, private := range [][]byte{
			append([]byte{0x80, 64}, seed...),
			append(append([]byte{0x30, 68, 0x04, 64}, seed...), 0x04, 0),
		} {
			der := append([]byte{0x02, 1, 0, 0x30, 11, 6, 9, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x04, k.oid, 0x04, byte(len(private))}, private...)
			der = append([]byte{0x30, byte(len(der))}, der...)
			put(t, 0o600, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), b, "security/server/srv/kex.key.pem")
			own, err := oap.NewKEMKey(k.kex, seed)
			if err != nil {
				t.Fatal(err)
			}
			put(t, 0o644, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: own.Public()})), a, "security/client/srv/kex.srv.pub.pem")
			put(t, 0o644, "kem_mode=client\nkex="+k.kex.String(), a, "security/client/srv/enc.conf")
			if c, s, err := shake(newSecurity(a), newSecurity(b), "srv"); err != nil || c.Kex != k.kex || *c.Key != *s.Key {
				t.Error(c, s, err)
			}
		}
	}
	// The expanded key alone.
	der := append([]byte{0x02, 1, 0, 0x30, 11, 6, 9, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x04, 2, 0x04, 4}, 0x04, 2, 1, 2)
	der = append([]byte{0x30, byte(len(der))}, der...)
	put(t, 0o600, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), b, "security/server/srv/kex.key.pem")
	if _, err := newSecurity(b).Server("srv", settings.Files{}); err == nil || !strings.Contains(err.Error(), "no seed in it") {
		t.Error(err)
	}
	// A hybrid's keys are raw.
	own, err := oap.NewKEMKey(oap.X25519MLKEM768, bytes.Repeat([]byte{9}, 96))
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(b, "security/server/srv/kex.key.pem"))
	os.Remove(filepath.Join(a, "security/client/srv/kex.srv.pub.pem"))
	put(t, 0o600, strings.Repeat("\x09", 96), b, "security/server/srv/kex.key.raw")
	put(t, 0o644, string(own.Public()), a, "security/client/srv/kex.srv.pub.raw")
	put(t, 0o644, "kem_mode=client\nkex=X25519MLKEM768", a, "security/client/srv/enc.conf")
	if c, s, err := shake(newSecurity(a), newSecurity(b), "srv"); err != nil || c.Kex != oap.X25519MLKEM768 || *c.Key != *s.Key {
		t.Error(c, s, err)
	}
}

// Keys of OpenSSL's older form are read too.
func TestECKey(t *testing.T) {
	dir := t.TempDir()
	certify(t, dir, "ca", filepath.Join(dir, "ca"))
	certify(t, dir, "issue", "srv")
	path := filepath.Join(dir, "security/server/srv/key.pem")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	params := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}})
	put(t, 0o600, string(params)+string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})), path)
	c, err := newSecurity(dir).Server("srv", settings.Files{})
	if err != nil || c.Identity == nil || c.Identity.Name() != "srv" {
		t.Error(c, err)
	}
}

// Only what is surely not there is absent: a symlink to nothing is an error of its own.
func TestAbsent(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	link, loop := filepath.Join(dir, "link"), filepath.Join(dir, "loop")
	if err := errors.Join(os.Symlink("nothing", link), os.Symlink("loop", loop), os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, link, loop, filepath.Join(link, "security"), filepath.Join(loop, "security"), filepath.Join(dir, "file"), filepath.Join(dir, "file", "security"), "a\x00b"} {
		if absent(path) {
			t.Errorf("%q is taken for absent", path)
		}
	}
	none := filepath.Join(dir, "none")
	if fd, err := openCached(dir); err != nil {
		t.Skip("this kernel does not tell what is in its caches")
	} else {
		unix.Close(fd)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Type == unix.TMPFS_MAGIC {
		t.Skip("this file system does not keep in mind what is not there")
	}
	for range 1000 { // a change elsewhere in the tree makes it fail now and then
		if _, err := os.Lstat(none); absent(none) && absent(filepath.Join(none, "security")) && errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
	t.Errorf("%q is not absent", none)
}
