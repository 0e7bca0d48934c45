package irmd

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"o7s/applets/internal/config"
	"o7s/applets/internal/pki"
	"o7s/core/irm"
	"o7s/core/oap"
	"o7s/core/registry"
)

// security is irm.Security of the folders that the C prototype has too:
//
//	DIR/security/server/NAME/   enc.conf, crt.pem, key.pem, kex.key.pem or kex.key.raw
//	DIR/security/client/NAME/   the same of who asks for NAME; kex.srv.pub.pem or .raw
//	DIR/security/cacert/        the CAs that are trusted
//	DIR/security/untrusted/     certificates between these and the ends
//
// It reads what has changed since the last time. A file that is there and can't be
// used is an error.
type security struct {
	dir string // DIR/security; "": there are no folders

	mu    sync.Mutex // guards the fields below
	known map[string]known
}

var _ irm.Security = (*security)(nil)

// known is a configuration that was read from files in the state stamp.
type known struct {
	stamp string
	cfg   *oap.Config
	err   error
}

const (
	maxSecret = 1 << 20 // bytes of a file
	maxKnown  = 4096    // configurations that are kept
	maxCAs    = 4096    // files in a folder of certificates
)

func newSecurity(dir string) *security {
	s := &security{known: make(map[string]known)}
	if dir != "" {
		s.dir = filepath.Join(dir, "security")
	}
	return s
}

// Configured implements irm.Security.
func (s *security) Configured() bool {
	if s.dir == "" {
		return false
	}
	_, err := os.Lstat(s.dir)
	return err == nil || !absent(err)
}

// absent reports whether err says that there is no such file. Any other error may
// hide one.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }

// Client implements irm.Security.
func (s *security) Client(name string, files registry.Files) (*oap.Config, error) {
	return s.find("client", name, files)
}

// Server implements irm.Security.
func (s *security) Server(name string, files registry.Files) (*oap.Config, error) {
	return s.find("server", name, files)
}

func (s *security) find(role, name string, files registry.Files) (*oap.Config, error) {
	l := s.look(role, name, files)
	key := fmt.Sprintf("%s\x00%s\x00%v", role, name, files)
	s.mu.Lock()
	k, ok := s.known[key]
	s.mu.Unlock()
	if ok && k.stamp == l.stamp.String() {
		return k.cfg, k.err
	}
	k = known{stamp: l.stamp.String()}
	k.cfg, k.err = l.read(role)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= maxKnown {
		clear(s.known)
	}
	s.known[key] = k
	return k.cfg, k.err
}

// looked is the files of a name that are there, and their state.
type looked struct {
	enc, crt, key      string // paths; "": there is none
	kemPEM, kemRaw     string
	roots, untrusted   []string
	hasRoots, hasChain bool
	stamp              strings.Builder
	err                error
}

// look finds the files. The error of one that can't be looked at is kept for read.
func (s *security) look(role, name string, files registry.Files) *looked {
	l := new(looked)
	in := func(string) string { return "" }
	if s.dir != "" && config.Folder(name) {
		in = func(file string) string { return filepath.Join(s.dir, role, name, file) }
	}
	kem := "kex.key"
	if role == "client" {
		kem = "kex.srv.pub"
	}
	for _, f := range []struct {
		to           *string
		given, usual string
	}{
		{&l.enc, files.Enc, in(config.EncFile)}, {&l.crt, files.Crt, in(config.CrtFile)}, {&l.key, files.Key, in(config.KeyFile)},
		{&l.kemPEM, "", in(kem + ".pem")}, {&l.kemRaw, "", in(kem + ".raw")},
	} {
		switch {
		case f.given != "":
			if *f.to = f.given; !l.note(f.given) {
				l.err = errors.Join(l.err, &fs.PathError{Op: "open", Path: f.given, Err: fs.ErrNotExist})
			}
		case f.usual != "" && l.note(f.usual):
			*f.to = f.usual
		}
	}
	if s.dir != "" {
		l.roots, l.hasRoots = l.folder(filepath.Join(s.dir, "cacert"))
		l.untrusted, l.hasChain = l.folder(filepath.Join(s.dir, "untrusted"))
	}
	return l
}

// note adds the state of a file to the stamp, and reports whether it is there.
func (l *looked) note(path string) bool {
	i, err := os.Stat(path)
	switch {
	case err == nil:
		fmt.Fprintf(&l.stamp, "%s %d %d %v\n", path, i.Size(), i.ModTime().UnixNano(), i.Mode())
		return true
	case absent(err):
		return false
	}
	fmt.Fprintf(&l.stamp, "%s %v\n", path, err)
	l.err = errors.Join(l.err, err)
	return true
}

// folder returns the files in a folder of certificates.
func (l *looked) folder(dir string) (paths []string, there bool) {
	d, err := os.Open(dir)
	if err == nil {
		defer d.Close()
		var names []string
		if names, err = d.Readdirnames(maxCAs + 1); errors.Is(err, io.EOF) {
			err = nil
		}
		if len(names) > maxCAs {
			err = fmt.Errorf("%s has more than %d files", dir, maxCAs)
		}
		for _, n := range names {
			path := filepath.Join(dir, n)
			if !strings.HasPrefix(n, ".") && l.note(path) {
				paths = append(paths, path)
			}
		}
	}
	if err != nil && !absent(err) {
		fmt.Fprintf(&l.stamp, "%s %v\n", dir, err)
		l.err = errors.Join(l.err, err)
	}
	return paths, err == nil
}

// read makes the configuration of what was found; nil where there is nothing.
func (l *looked) read(role string) (*oap.Config, error) {
	if l.err != nil {
		return nil, l.err
	}
	if l.enc+l.crt+l.key+l.kemPEM+l.kemRaw == "" && !l.hasRoots && !l.hasChain {
		return nil, nil
	}
	c := new(oap.Config)
	var err error
	if l.enc != "" {
		err = from(l.enc, false, func(text []byte) (err error) {
			c.Suite, err = oap.ParseSuite(string(text))
			return err
		})
	}
	if err == nil && (l.crt != "" || l.key != "") {
		c.Identity, err = l.identity()
	}
	if err == nil && l.hasRoots {
		c.Roots, err = pool(l.roots)
	}
	if err == nil && l.hasChain {
		c.Untrusted, err = pool(l.untrusted)
	}
	if err == nil && role == "server" {
		c.KEMKey, err = readKEM(l.kemPEM, l.kemRaw, true, pki.KEMKey)
	} else if err == nil {
		c.KEMPublic, err = readKEM(l.kemPEM, l.kemRaw, false, pki.KEMPublic)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (l *looked) identity() (id *oap.Identity, err error) {
	switch {
	case l.crt == "":
		return nil, fmt.Errorf("%s is there, and its certificate %s is not", l.key, config.CrtFile)
	case l.key == "":
		return nil, fmt.Errorf("%s is there, and its private key %s is not", l.crt, config.KeyFile)
	}
	var cert *x509.Certificate
	err = from(l.crt, false, func(text []byte) error {
		all, err := pki.Certificates(text)
		if err == nil {
			cert = all[0]
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	err = from(l.key, true, func(text []byte) error {
		key, err := pki.Key(text)
		if err == nil {
			id, err = oap.NewIdentity(cert, key)
		}
		return err
	})
	return id, err
}

func pool(paths []string) (*x509.CertPool, error) {
	p := x509.NewCertPool()
	for _, path := range paths {
		err := from(path, false, func(text []byte) error {
			all, err := pki.Certificates(text)
			for _, c := range all {
				p.AddCert(c)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

func readKEM[T any](pem, raw string, secret bool, parse func([]byte, bool) (T, error)) (k T, err error) {
	path := pem
	if path == "" {
		path = raw
	}
	if path == "" {
		return k, nil
	}
	err = from(path, secret, func(text []byte) (err error) {
		k, err = parse(text, pem == "")
		return err
	})
	return k, err
}

// from reads a file and gives its text to use. A secret that others can read is an
// error; its text is zeroed.
func from(path string, secret bool, use func([]byte) error) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would wait
	if err != nil {
		return err
	}
	defer f.Close()
	i, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !i.Mode().IsRegular():
		return fmt.Errorf("%s is no regular file", path)
	case i.Size() > maxSecret:
		return fmt.Errorf("%s has more than %d bytes", path, maxSecret)
	case secret && i.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s is a private key, and other users can read it (mode %04o): chmod 600 %s", path, i.Mode().Perm(), path)
	}
	text := make([]byte, i.Size())
	n, err := io.ReadFull(f, text)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", path, err)
	}
	err = use(text[:n])
	if secret {
		clear(text)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
