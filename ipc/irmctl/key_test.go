package irmctl

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/core/crypt"
)

func TestKeyFile(t *testing.T) {
	want := crypt.Key{1, 2, 31: 3}
	fd, err := KeyFile(&want)
	if err != nil {
		t.Fatal(err)
	}
	again, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	got, err := TakeKey(fd)
	if err != nil || *got != want {
		t.Fatalf("%v", err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("the descriptor is open: %v", err)
	}
	if _, err := TakeKey(again); !errors.Is(err, core.ErrMessage) {
		t.Errorf("the key can be read twice: %v", err)
	}
}
