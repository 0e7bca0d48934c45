package irmd

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"o7s/applets/internal/config"
	"o7s/applets/internal/pki"
	"o7s/core/irm"
	"o7s/core/oap"
	"o7s/core/settings"
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
	if s.dir == "" || absent(s.dir) {
		return false
	}
	there, err := folders(filepath.Dir(s.dir), filepath.Base(s.dir))
	return there || err != nil
}

// folders reports whether the folder path, below dir, is there, dir included. An
// error says that something is in the way: a symbolic link to nothing, a file in
// place of a folder, or a folder that this process can't enter.
func folders(dir string, path ...string) (bool, error) {
	for {
		_, err := os.Lstat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return false, nil
		case err != nil:
			return false, err
		}
		i, err := os.Stat(dir)
		switch {
		case err != nil:
			return false, unresolved(dir, err)
		case !i.IsDir():
			return false, fmt.Errorf("%s is no folder", dir)
		case len(path) == 0:
			return true, nil
		}
		dir, path = filepath.Join(dir, path[0]), path[1:]
	}
}

// unresolved is the error of a path that is there, of which Stat says err.
func unresolved(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is a symbolic link to a file that is not there", path)
	}
	return err
}

// Client implements irm.Security.
func (s *security) Client(name string, files settings.Files) (*oap.Config, error) {
	return s.find("client", name, files)
}

// Server implements irm.Security.
func (s *security) Server(name string, files settings.Files) (*oap.Config, error) {
	return s.find("server", name, files)
}

func (s *security) find(role, name string, files settings.Files) (*oap.Config, error) {
	l := s.look(role, name, files)
	key := fmt.Sprintf("%s\x00%s\x00%v", role, name, files)
	s.mu.Lock()
	k, ok := s.known[key]
	s.mu.Unlock()
	if ok && k.stamp == l.stamp.String() {
		return k.cfg, nil
	}
	cfg, err := l.read(role)
	if err != nil {
		return nil, err // which may be over at the next flow, without a change of the files
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= maxKnown {
		clear(s.known)
	}
	s.known[key] = known{l.stamp.String(), cfg}
	return cfg, nil
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

// look finds the files. The error of a file that can't be looked at is kept for read.
func (s *security) look(role, name string, files settings.Files) *looked {
	l := new(looked)
	in := func(string) string { return "" }
	if l.hasFolder(s.dir, role, name) {
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
		l.roots, l.hasRoots = l.folder(s.dir, "cacert")
		l.untrusted, l.hasChain = l.folder(s.dir, "untrusted")
	}
	return l
}

// hasFolder reports whether a name has a folder of its own.
func (l *looked) hasFolder(dir, role, name string) bool {
	if dir == "" || strings.IndexByte(name, 0) >= 0 || !filepath.IsLocal(name) || filepath.Clean(name) == "." {
		return false // it is the path of no folder below
	}
	there, err := folders(filepath.Dir(dir), filepath.Base(dir), role, name)
	if there && !config.Folder(name) {
		err = fmt.Errorf("%s is there, and a name that has a folder consists of letters, digits and . _ -", filepath.Join(dir, role, name))
	}
	return !l.failed(err) && there
}

// failed keeps err for read, and reports whether it is one.
func (l *looked) failed(err error) bool {
	if err == nil {
		return false
	}
	fmt.Fprintf(&l.stamp, "%v\n", err)
	l.err = errors.Join(l.err, err)
	return true
}

// note adds the state of a file to the stamp, and reports whether it is there.
func (l *looked) note(path string) bool {
	if _, err := os.Lstat(path); err != nil {
		return !errors.Is(err, fs.ErrNotExist) && l.failed(err)
	}
	i, err := os.Stat(path)
	if err != nil {
		return l.failed(unresolved(path, err))
	}
	st := i.Sys().(*syscall.Stat_t)
	fmt.Fprintf(&l.stamp, "%s %d %d %v %v %v\n", path, st.Dev, st.Ino, st.Size, st.Ctim, st.Mode)
	return true
}

// folder returns the files in a folder of certificates.
func (l *looked) folder(dir, name string) (paths []string, there bool) {
	there, err := folders(filepath.Dir(dir), filepath.Base(dir), name)
	if l.failed(err) || !there {
		return nil, there
	}
	dir = filepath.Join(dir, name)
	d, err := os.Open(dir)
	if l.failed(err) {
		return nil, true
	}
	defer d.Close()
	names, err := d.Readdirnames(maxCAs + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		l.failed(fmt.Errorf("%s: %w", dir, err))
	}
	if len(names) > maxCAs {
		l.failed(fmt.Errorf("%s has more than %d files", dir, maxCAs))
	}
	slices.Sort(names)
	for _, n := range names {
		path := filepath.Join(dir, n)
		if !strings.HasPrefix(n, ".") && l.note(path) {
			paths = append(paths, path)
		}
	}
	return paths, true
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
	path := pem + raw
	switch {
	case path == "":
		return k, nil
	case pem != "" && raw != "":
		return k, fmt.Errorf("%s and %s are there, and a name has one KEM key: remove one of them", pem, raw)
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
	case secret && !ours(i):
		return fmt.Errorf("%s is a private key, and belongs to the user %d: chown it to the user of the irmd", path, i.Sys().(*syscall.Stat_t).Uid)
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

// ours reports whether a file belongs to the user of this process, or to root.
func ours(i fs.FileInfo) bool {
	uid := int(i.Sys().(*syscall.Stat_t).Uid)
	return uid == 0 || uid == os.Geteuid()
}
