// Package cert is the applet that makes certificates for flows to other systems: a
// certificate authority of one's own, and certificates of names that it signs. It
// writes files and talks to no irmd.
package cert

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"o7s/applets"
	"o7s/applets/internal/config"
	"o7s/applets/internal/pki"
	"o7s/core"
	"o7s/core/logs"
	"o7s/core/oap"
)

const (
	caFile    = "ca.pem"
	caKeyFile = "ca-key.pem"

	caYears = 10
	days    = 365
	// backdate is how long before now a certificate is valid, for systems whose
	// clocks are behind.
	backdate = time.Hour
)

const summary = "make certificates for flows to other systems"

var help = applets.Help{
	Synopsis: `o7s cert ca DIR
o7s cert issue NAME [--client DST] [--encrypt]`,
	Description: `"cert ca" makes a certificate authority (CA) in DIR and trusts it on this system.
"cert issue" makes a certificate, signed by it, with which the servers of the name
NAME prove who they are. irmd takes it for the next flow:

   $ o7s cert ca ~/o7s-ca
   $ o7s cert issue oping-server --encrypt

Every other system needs the CA's certificate, and the wish to encrypt:

   $ ssh b 'mkdir -p .config/o7s/security/{cacert,client/oping-server}'
   $ scp ~/o7s-ca/ca.pem b:.config/o7s/security/cacert/
   $ ssh b 'touch .config/o7s/security/client/oping-server/enc.conf'

With --client the certificate is that of a client: NAME is who asks for flows to
DST. To make a certificate for another system, write it to a folder with --dir, and
copy that to security/server/NAME or security/client/DST there.`,
	Notes: `The files are below $O7S_CONFIG_DIR, else below /etc/ouroboros for root, else below
o7s in the user's configuration folder: security/server/NAME/crt.pem and key.pem,
security/cacert/. The C prototype reads the same ones. docs/security.md tells what
they do.

Exit status: 0 done; 1 something failed; 2 wrong usage.`,
}

// Applet returns the applet cert.
func Applet() applets.Applet {
	return applets.Applet{Name: "cert", Summary: summary, NoLink: true, Run: run}
}

func run(ctx context.Context, env *applets.Env) error {
	m := maker{dir: config.Dir(), now: time.Now(), say: func(format string, args ...any) {
		fmt.Fprintf(env.Stdout, format+"\n", args...)
	}}
	flagsFirst(env)
	return applets.CLI(ctx, env, help.On(&cli.App{
		Usage:     summary,
		ArgsUsage: "ca DIR | issue NAME",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "ca", Usage: "sign with the CA in `DIR`; else with the last one that cert ca has made here"},
			&cli.StringFlag{Name: "client", Usage: "NAME is a client, who asks for flows to `DST`"},
			&cli.BoolFlag{Name: "encrypt", Usage: "have the flows encrypted too: write enc.conf", DisableDefaultText: true},
			&cli.StringFlag{Name: "dir", Usage: "write crt.pem and key.pem to `DIR`, for another system"},
			&cli.IntFlag{Name: "days", Usage: "the certificate is good for `N` days", Value: days},
			&cli.BoolFlag{Name: "renew", Usage: "replace a certificate that is there", DisableDefaultText: true},
		},
		Action: func(c *cli.Context) error {
			what, arg := c.Args().Get(0), c.Args().Get(1)
			switch {
			case what == "ca" && c.NArg() == 2:
				return m.ca(arg)
			case what == "issue" && c.NArg() == 2:
				o := issue{name: arg, ca: c.String("ca"), client: c.String("client"), dir: c.String("dir"), encrypt: c.Bool("encrypt"), renew: c.Bool("renew"), days: c.Int("days")}
				return m.issue(o)
			case what == "ca":
				return applets.Usagef("the folder for the CA is missing: cert ca DIR")
			case what == "issue":
				return applets.Usagef("the name is missing: cert issue NAME")
			}
			return applets.Usagef("cert ca DIR makes a CA, cert issue NAME a certificate; \"cert --help\" tells more")
		},
	}))
}

// flagsFirst moves the flags before the arguments, where people may write them too.
func flagsFirst(env *applets.Env) {
	var flags, args []string
	for i := 0; i < len(env.Args); i++ {
		a := env.Args[i]
		if !strings.HasPrefix(a, "-") || a == "-" {
			args = append(args, a)
			continue
		}
		flags = append(flags, a)
		switch strings.TrimLeft(a, "-") {
		case "ca", "client", "dir", "days":
			if i++; i < len(env.Args) {
				flags = append(flags, env.Args[i])
			}
		}
	}
	env.Args = append(flags, args...)
}

// maker makes certificates.
type maker struct {
	dir string // what an administrator configures
	now time.Time
	say func(format string, args ...any)
}

func (m maker) security(path ...string) (string, error) {
	if m.dir == "" {
		return "", fmt.Errorf("%w: there is no folder for the configuration: set O7S_CONFIG_DIR", core.ErrUsage)
	}
	return filepath.Join(append([]string{m.dir, "security"}, path...)...), nil
}

// ca makes a CA in dir and trusts it.
func (m maker) ca(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	link, err := m.security("ca")
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	host, _ := os.Hostname()
	template := m.template("CA of "+host, m.now.AddDate(caYears, 0, 0))
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := m.writeKey(filepath.Join(dir, caKeyFile), key, false); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, caFile), "CERTIFICATE", der, 0o644, false); err != nil {
		return err
	}
	sum := sha256.Sum256(der)
	trusted, err := m.security("cacert", "ca-"+hex.EncodeToString(sum[:4])+".pem")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(trusted), 0o755); err != nil {
		return err
	}
	if err := writeFile(trusted, "CERTIFICATE", der, 0o644, true); err != nil {
		return err
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(dir, link); err != nil {
		return err
	}
	m.say("Made a CA in %s. Its private key is %s: keep it, and give it to nobody.", dir, caKeyFile)
	m.say("This system trusts it: %s.", trusted)
	m.say("Copy %s to the same folder of each other system.", filepath.Join(dir, caFile))
	return nil
}

// issue says what certificate to make.
type issue struct {
	name, ca, client, dir string
	encrypt, renew        bool
	days                  int
}

// issue makes a certificate.
func (m maker) issue(o issue) error {
	if err := core.CheckName(o.name); err != nil {
		return err
	}
	if len(o.name) > 64 {
		return fmt.Errorf("%w: a certificate's common name has at most 64 bytes, %q has %d", core.ErrUsage, o.name, len(o.name))
	}
	if o.days < 1 || o.days > 36500 {
		return fmt.Errorf("%w: a certificate is good for 1 to 36500 days", core.ErrUsage)
	}
	dir, role := o.dir, "server"
	if dir == "" {
		folder := o.name
		if o.client != "" {
			folder, role = o.client, "client"
		}
		if !config.Folder(folder) {
			return fmt.Errorf("%w: the name %q can't be a folder's: write the files to one with --dir, and name them in irmd's config file", core.ErrUsage, folder)
		}
		var err error
		if dir, err = m.security(role, folder); err != nil {
			return err
		}
	}
	crtFile, keyFile, encFile := filepath.Join(dir, config.CrtFile), filepath.Join(dir, config.KeyFile), filepath.Join(dir, config.EncFile)
	for _, path := range []string{keyFile, crtFile} { // before one of them is written
		if err := mayWrite(path, o.renew); err != nil {
			return err
		}
	}
	hasEnc := false
	if o.encrypt {
		var err error
		if hasEnc, err = encrypts(encFile); err != nil {
			return err
		}
	}
	caCert, caKey, err := m.authority(o.ca)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	until := m.now.AddDate(0, 0, o.days)
	if until.After(caCert.NotAfter) {
		until = caCert.NotAfter
	}
	template := m.template(o.name, until)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, caCert, key.Public(), caKey)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := m.writeKey(keyFile, key, o.renew); err != nil {
		return err
	}
	if err := writeFile(crtFile, "CERTIFICATE", der, 0o644, o.renew); err != nil {
		return err
	}
	m.say("Made the certificate of %s, good until %s: %s and %s in %s.", logs.Word(o.name), until.Format(time.DateOnly), config.CrtFile, config.KeyFile, dir)
	if o.encrypt && !hasEnc {
		if err := os.WriteFile(encFile, []byte("kex=prime256v1\ncipher=aes-256-gcm\nkdf=sha256\ndigest=sha256\n"), 0o644); err != nil {
			return err
		}
	}
	if o.encrypt {
		m.say("Flows are encrypted: %s.", encFile)
	}
	return nil
}

// encrypts reports whether there is an enc.conf at path. One that does not ask for
// encryption is an error.
func encrypts(path string) (bool, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	suite, err := oap.ParseSuite(string(text))
	if err == nil && suite.Kex == 0 {
		err = fmt.Errorf("%w: it says none, which --encrypt does not change: edit or remove it", core.ErrUsage)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return true, nil
}

// authority returns the CA in dir, that of the last cert ca if dir is "".
func (m maker) authority(dir string) (*x509.Certificate, any, error) {
	if dir == "" {
		var err error
		if dir, err = m.security("ca"); err != nil {
			return nil, nil, err
		}
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("%w: there is no CA here: make one with \"o7s cert ca DIR\", or say where it is with --ca DIR", core.ErrNotFound)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, caFile))
	if err != nil {
		return nil, nil, err
	}
	certs, err := pki.Certificates(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", filepath.Join(dir, caFile), err)
	}
	keyFile := filepath.Join(dir, caKeyFile)
	if i, err := os.Stat(keyFile); err == nil && i.Mode().Perm()&0o077 != 0 {
		return nil, nil, fmt.Errorf("%w: %s is the private key of a CA, and other users can read it (mode %04o): make a new CA, or chmod 600 it if nobody has", core.ErrUsage, keyFile, i.Mode().Perm())
	}
	if text, err = os.ReadFile(keyFile); err != nil {
		return nil, nil, err
	}
	key, err := pki.Key(text)
	clear(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", keyFile, err)
	}
	return certs[0], key, nil
}

func (m maker) template(name string, until time.Time) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: m.now.Add(-backdate), NotAfter: until,
	}
}

func (m maker) writeKey(path string, key *ecdsa.PrivateKey, replace bool) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	defer clear(der)
	return writeFile(path, "PRIVATE KEY", der, 0o600, replace)
}

func mayWrite(path string, replace bool) error {
	if _, err := os.Lstat(path); err == nil && !replace {
		return fmt.Errorf("%w: %s; --renew replaces a certificate and its key, and a CA is never replaced", core.ErrExists, path)
	}
	return nil
}

// writeFile writes a PEM file, all of it or nothing. One that is there stays, which
// is an error, unless it is to be replaced.
func writeFile(path, kind string, der []byte, mode fs.FileMode, replace bool) error {
	if err := mayWrite(path, replace); err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	defer clear(text)
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(f.Chmod(mode), write(f, text), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func write(f *os.File, b []byte) error {
	_, err := f.Write(b)
	return err
}
