package irmd

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core/logs"
)

const (
	// settleTime is how long an irmd waits before it makes again what was
	// removed: rm -r is through by then, and an irmd that was started anew
	// comes first.
	settleTime = 250 * time.Millisecond
	// againTime is how long it waits between two tries.
	againTime = time.Second
)

// keep watches h until ctx is done. When the directory, the lock or the socket
// has gone, it makes them again and hands the new listener to serve; the old
// listener is closed. The error is alreadyRunning where another irmd has the
// directory by now.
func (h *home) keep(ctx context.Context, log *logs.Logger, serve func(*net.UnixListener)) error {
	for {
		if err := h.changed(ctx); err != nil {
			log.Warnf("Failed to watch the runtime directory: %v.", err)
			<-ctx.Done()
		}
		if ctx.Err() != nil {
			return nil
		}
		if h.whole() {
			continue
		}
		log.Warnf("The socket or the lock of this IRMd was removed from %s.", h.dir)
		if err := h.again(ctx, log); err != nil || ctx.Err() != nil {
			return err
		}
		serve(h.ln)
	}
}

// again takes the directory and makes the socket, as soon as that can be done.
func (h *home) again(ctx context.Context, log *logs.Logger) error {
	told := false
	for ctx.Err() == nil {
		var err error
		if !h.locked() {
			err = h.takeLock()
		}
		if _, running := errors.AsType[alreadyRunning](err); running {
			return err
		}
		old := h.ln
		if err == nil {
			err = h.listen()
		}
		if err == nil {
			old.Close()
			return nil
		}
		if !told {
			log.Warnf("Failed to make the socket again: %v; trying each second.", err)
			told = true
		}
		sleep(ctx, againTime)
	}
	return nil
}

// changed returns when something was removed from the directory, or has taken
// the place of something there, or ctx is done.
func (h *home) changed(ctx context.Context) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("inotify_init", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.Close() })()
	_, err = unix.InotifyAddWatch(fd, h.dir, unix.IN_DELETE|unix.IN_MOVED_FROM|unix.IN_MOVED_TO|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_ONLYDIR)
	if !h.whole() { // something went before the watch began
		sleep(ctx, settleTime)
		return nil
	}
	if err != nil {
		return os.NewSyscallError("inotify_add_watch", err)
	}
	if _, err := f.Read(make([]byte, 4096)); err != nil && ctx.Err() == nil {
		return err
	}
	sleep(ctx, settleTime)
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
