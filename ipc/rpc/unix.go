package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
)

// maxPath is the longest path that a socket address holds, in bytes.
const maxPath = 107

// Listen makes the socket dir/name and listens. Its file never has more than the
// permissions mode, whatever the umask is, not even for a moment. dir may be longer than
// a socket address. The caller holds the lock of the socket, and has removed an old
// file: if name exists, the error is EADDRINUSE. Close leaves the file in place, since
// another process may have made it anew. The holder of the lock removes the file.
func Listen(dir, name string, mode os.FileMode) (*net.UnixListener, error) {
	ln, err := listen(dir, name, mode)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", filepath.Join(dir, name), err)
	}
	return ln, nil
}

func listen(dir, name string, mode os.FileMode) (*net.UnixListener, error) {
	d, addr, err := socketAddr(dir, name)
	if err != nil {
		return nil, err
	}
	defer unix.Close(d)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close() // FileListener duplicates

	perm := uint32(mode.Perm())
	if err := bindMode(fd, addr, perm); err != nil {
		return nil, err
	}
	undo := func(err error) error {
		unix.Unlinkat(d, name, 0)
		return err
	}
	if err := unix.Fchmodat(d, name, perm, 0); err != nil {
		return nil, undo(os.NewSyscallError("chmod", err))
	}
	if err := unix.Listen(fd, 4096); err != nil { // the kernel cuts it to somaxconn
		return nil, undo(os.NewSyscallError("listen", err))
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, undo(err)
	}
	ln, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, undo(fmt.Errorf("a listener of type %T", l))
	}
	ln.SetUnlinkOnClose(false)
	return ln, nil
}

// RefuseFiles makes the kernel refuse descriptors that are sent to conn; see
// Config.NoFiles. For a listener it holds for all its connections, also before they are
// accepted. An error says that this kernel cannot refuse them.
func RefuseFiles(conn syscall.Conn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) {
		err = os.NewSyscallError("setsockopt SO_PASSRIGHTS", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSRIGHTS, 0))
	})
	return errors.Join(cerr, err)
}

// bindMode binds with at most the permissions perm: bind gives the file the
// socket's own mode, less the umask. A chmod then adds what the umask took.
func bindMode(fd int, addr string, perm uint32) error {
	if err := unix.Fchmod(fd, perm); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrUnix{Name: addr}))
}

// socketAddr returns an address for dir/name that is short enough, and the
// open directory, which it may go through and which the caller closes.
func socketAddr(dir, name string) (fd int, addr string, err error) {
	if name == "" || name != filepath.Base(name) {
		return -1, "", fmt.Errorf("%w: socket name %q", core.ErrUsage, name)
	}
	fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", &os.PathError{Op: "open", Path: dir, Err: err}
	}
	addr = filepath.Join(dir, name)
	if len(addr) > maxPath || addr[0] == '@' { // which means an abstract address
		addr = "/proc/self/fd/" + strconv.Itoa(fd) + "/" + name
	}
	if len(addr) > maxPath {
		unix.Close(fd)
		return -1, "", fmt.Errorf("%w: socket name of %d bytes", core.ErrUsage, len(name))
	}
	return fd, addr, nil
}

// Dial connects to the socket dir/name, which may be longer than a socket
// address. The error wraps the system's: fs.ErrNotExist where there is no such
// file, ECONNREFUSED where nobody listens; or it is core.ErrTimeout or
// core.ErrCanceled. While the listener's queue is full Dial tries again until
// ctx is done.
func Dial(ctx context.Context, dir, name string) (*net.UnixConn, error) {
	conn, err := dial(ctx, dir, name)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", filepath.Join(dir, name), err)
	}
	return conn, nil
}

func dial(ctx context.Context, dir, name string) (*net.UnixConn, error) {
	d, addr, err := socketAddr(dir, name)
	if err != nil {
		return nil, err
	}
	defer unix.Close(d)
	var dialer net.Dialer
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		c, err := dialer.DialContext(ctx, "unixpacket", addr)
		if err == nil {
			return c.(*net.UnixConn), nil
		}
		if ctx.Err() != nil {
			return nil, core.ContextError(ctx.Err())
		}
		if errors.Is(err, context.DeadlineExceeded) { // ctx's, which net noticed first
			return nil, core.ErrTimeout
		}
		if !errors.Is(err, unix.EAGAIN) {
			var sys *os.SyscallError
			if errors.As(err, &sys) {
				err = sys // net's words repeat the address
			}
			return nil, err
		}
		// The queue is full, and nothing tells when it no longer is.
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, core.ContextError(ctx.Err())
		}
	}
}

// Pair returns the two ends of a connection: ours, and theirs for a child that is about
// to be started. The child gets theirs through exec.Cmd.ExtraFiles and calls Inherit.
// The caller closes theirs once the child runs: else it does not see when the child
// ends. For the kernel the process that made the pair is the peer at both ends, so set
// Config.Peer.
func Pair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	if ours, err = connOf(fds[0]); err != nil {
		unix.Close(fds[1])
		return nil, nil, err
	}
	return ours, os.NewFile(uintptr(fds[1]), "rpc"), nil
}

// Inherit makes a connection of the descriptor fd that this process was started with.
// Call it before anything else: such a descriptor is not close-on-exec, so a program
// that is started earlier would hold the connection open. If Inherit succeeds it takes
// fd over. If fd is no socket of a Pair it returns an error and leaves fd as it was.
func Inherit(fd int) (*net.UnixConn, error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return nil, fmt.Errorf("inherit descriptor %d: %w", fd, err)
	}
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || domain != unix.AF_UNIX || typ != unix.SOCK_SEQPACKET {
		return nil, fmt.Errorf("inherit descriptor %d: %w: not a SOCK_SEQPACKET socket", fd, core.ErrUsage)
	}
	unix.CloseOnExec(fd)
	return connOf(fd)
}

// connOf takes fd over.
func connOf(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "rpc")
	defer f.Close() // FileConn duplicates
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("%w: not a Unix socket", core.ErrUsage)
	}
	return u, nil
}
