package applets

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// installer installs this executable, or takes an installation away. It writes what it
// does to w, a line for each file.
type installer struct {
	w      io.Writer
	bin    string // the directory of the executable and of the symlinks to it
	prefix string // the directory above the manual pages and completions; "": none of them
	table  []Applet
}

// newInstaller returns the installer for args, which follow the word command.
func newInstaller(w io.Writer, command string, args []string, table []Applet) (*installer, error) {
	i := &installer{w: w, table: table}
	value, assigned := strings.CutPrefix(first(args), "--prefix=")
	switch {
	case assigned && len(args) == 1 && value != "":
		i.prefix = value
	case len(args) == 2 && args[0] == "--prefix" && args[1] != "":
		i.prefix = args[1]
	case len(args) == 1 && args[0] != "" && args[0][0] != '-': // "./-x" is a directory of such a name
		i.bin = args[0]
		return i, nil
	default:
		return nil, Usagef("%s takes one directory: o7s %s DIR, or o7s %s --prefix DIR", command, command, command)
	}
	i.bin = filepath.Join(i.prefix, "bin")
	return i, nil
}

// links returns the names of the symlinks to the executable.
func (i *installer) links() (names []string) {
	for _, a := range i.table {
		if !a.Hidden && !a.NoLink {
			names = append(names, a.Name)
		}
	}
	return names
}

// The places below a prefix where the shells look for completions. Bash and fish look
// for a file with the name of the command.
func (i *installer) manDir() string { return filepath.Join(i.prefix, "share", "man", "man8") }
func (i *installer) bashDir() string {
	return filepath.Join(i.prefix, "share/bash-completion/completions")
}
func (i *installer) zshDir() string { return filepath.Join(i.prefix, "share/zsh/site-functions") }
func (i *installer) fishDir() string {
	return filepath.Join(i.prefix, "share/fish/vendor_completions.d")
}

// install copies this executable to bin and makes a symlink to it for each applet. It
// replaces an o7s by rename, so that one that runs goes on. It never replaces a file
// of another's: its error names that file.
func (i *installer) install(ctx context.Context) error {
	if err := mkdir(i.w, i.bin); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	if err := copySelf(filepath.Join(i.bin, "o7s")); err != nil {
		return fmt.Errorf("install to %s: %w", i.bin, err)
	}
	fmt.Fprintln(i.w, filepath.Join(i.bin, "o7s"))
	if err := i.symlinks(i.bin, "", i.links()); err != nil || i.prefix == "" {
		return err
	}
	if err := man(ctx, i.w, i.manDir(), i.table); err != nil {
		return err
	}
	for _, s := range []struct {
		shell, dir, file, suffix string
		links                    []string
	}{
		{"bash", i.bashDir(), "o7s", "", i.links()},
		{"zsh", i.zshDir(), "_o7s", "", nil}, // which names its commands itself
		{"fish", i.fishDir(), "o7s.fish", ".fish", i.links()},
	} {
		if err := mkdir(i.w, s.dir); err != nil {
			return fmt.Errorf("install: %w", err)
		}
		var script bytes.Buffer
		if err := completion(&script, []string{s.shell}, i.table); err != nil {
			return err
		}
		path := filepath.Join(s.dir, s.file)
		if err := writeOwn(i.w, path, script.Bytes()); err != nil {
			return fmt.Errorf("install: %w", err)
		}
		if err := i.symlinks(s.dir, s.suffix, s.links); err != nil {
			return err
		}
	}
	return nil
}

// mkdir makes the directory dir, and says so if it was not there.
func mkdir(w io.Writer, dir string) error {
	if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s was not there: it is made\n", filepath.Clean(dir)+"/")
	return err
}

// symlinks makes symlinks in dir to its file "o7s" and suffix.
func (i *installer) symlinks(dir, suffix string, names []string) error {
	for _, name := range names {
		link := filepath.Join(dir, name+suffix)
		if err := symlink("o7s"+suffix, link); err != nil {
			return fmt.Errorf("install %s: %w", name, err)
		}
		fmt.Fprintln(i.w, link)
	}
	return nil
}

// writeOwn writes text to the file at path and says so. It replaces no file that is
// neither a manual page nor a completion of o7s.
func writeOwn(w io.Writer, path string, text []byte) error {
	if was, err := os.ReadFile(path); err == nil && !written(was) {
		return fmt.Errorf("%s exists and is not of o7s: remove it first", path)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, path)
	return err
}

// written reports whether text is a manual page or a completion that o7s has written.
func written(text []byte) bool {
	head := text[:min(len(text), 300)]
	return bytes.Contains(head, []byte(`"o7s `)) && bytes.HasPrefix(head, []byte(".TH ")) || bytes.Contains(head, []byte(" completion of o7s: "))
}

// uninstall removes what install has written: the executable, the symlinks to it, the
// manual pages and the completions. It leaves directories, and files of others.
func (i *installer) uninstall() error {
	exe := filepath.Join(i.bin, "o7s")
	if info, err := buildinfo.ReadFile(exe); err == nil && info.Main.Path != "o7s" || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("uninstall: %s is no o7s: nothing is removed", exe)
	}
	gone := 0
	remove := func(path string) error {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("uninstall: %w", err)
		}
		gone++
		_, err := fmt.Fprintln(i.w, path)
		return err
	}
	// An earlier version may have had other applets.
	dirs := []string{i.bin}
	if i.prefix != "" {
		dirs = append(dirs, i.manDir(), i.bashDir(), i.zshDir(), i.fishDir())
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("uninstall: %w", err)
		}
		// The symlinks go before what they lead to.
		slices.SortStableFunc(entries, func(a, b fs.DirEntry) int { return int(b.Type()&fs.ModeSymlink) - int(a.Type()&fs.ModeSymlink) })
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if !i.mine(dir, path, e) {
				continue
			}
			if err := remove(path); err != nil {
				return err
			}
		}
	}
	if gone == 0 {
		return fmt.Errorf("uninstall: there is no o7s in %s", i.bin)
	}
	return nil
}

// mine reports whether install has written the file e of dir.
func (i *installer) mine(dir, path string, e fs.DirEntry) bool {
	if to, err := os.Readlink(path); err == nil {
		return to == "o7s" || to == "o7s.fish"
	}
	if !e.Type().IsRegular() {
		return false
	}
	if dir == i.bin {
		return e.Name() == "o7s"
	}
	text, err := os.ReadFile(path)
	return err == nil && written(text)
}

func copySelf(path string) (err error) {
	// Not os.Executable: that path may be another file by now.
	src, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.CreateTemp(filepath.Dir(path), ".o7s-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(dst.Name())
		}
	}()
	_, err = io.Copy(dst, src)
	if err == nil {
		err = dst.Chmod(0o755)
	}
	if cerr := dst.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(dst.Name(), path)
}

func symlink(target, link string) error {
	if was, err := os.Readlink(link); err == nil {
		if was == target {
			return nil
		}
		return fmt.Errorf("%s is a symlink to %s: remove it first", link, was)
	}
	if _, err := os.Lstat(link); err == nil {
		return fmt.Errorf("%s exists and is no symlink: remove it first", link)
	}
	return os.Symlink(target, link)
}
