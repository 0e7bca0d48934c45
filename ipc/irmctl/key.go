package irmctl

import (
	"fmt"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/core/crypt"
)

// A key does not go through the buffers of a message. A pipe that holds it is the
// message's third descriptor: then the kernel has the key until its owner reads it.

// KeyFile returns a descriptor from which TakeKey reads key, once. The caller closes
// it. The error is core.ErrLimit.
func KeyFile(key *crypt.Key) (int, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return -1, fmt.Errorf("%w: make a pipe for a key: %w", core.ErrLimit, err)
	}
	defer unix.Close(p[1])
	if n, err := unix.Write(p[1], key[:]); n != len(key) {
		unix.Close(p[0])
		return -1, fmt.Errorf("%w: write a key to a pipe: %w", core.ErrLimit, err)
	}
	return p[0], nil
}

// TakeKey reads the key in fd and closes fd.
func TakeKey(fd int) (*crypt.Key, error) {
	defer unix.Close(fd)
	key := new(crypt.Key)
	if n, err := unix.Read(fd, key[:]); n != len(key) {
		key.Zero()
		return nil, fmt.Errorf("%w: a key of %d bytes: %w", core.ErrMessage, n, err)
	}
	return key, nil
}
