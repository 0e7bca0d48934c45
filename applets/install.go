package applets

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// install copies this executable to dir/o7s and makes a symlink to it for
// each applet. It replaces an o7s by rename, so that one that runs goes on. It
// never replaces another file, and its error names that file.
func install(w io.Writer, dir string, table []Applet) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	if err := copySelf(filepath.Join(dir, "o7s")); err != nil {
		return fmt.Errorf("install to %s: %w", dir, err)
	}
	fmt.Fprintln(w, filepath.Join(dir, "o7s"))
	for _, a := range table {
		if a.Hidden || a.NoLink {
			continue
		}
		link := filepath.Join(dir, a.Name)
		if err := symlink("o7s", link); err != nil {
			return fmt.Errorf("install %s: %w", a.Name, err)
		}
		fmt.Fprintln(w, link)
	}
	return nil
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
