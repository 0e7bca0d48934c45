package irmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/core/irm"
)

// A file of another user may lie on a file system of that user's, which need not
// answer, or that user may hold a lease on it. So irmd itself opens, executes and
// looks for no such file. A helper does: a process of this executable that runs as
// that user. If the file does not answer in time, the helper is killed.

// helperWord is the first argument of an irmd that is a helper.
const helperWord = "helper"

// helperEnv makes a helper start sooner: it does little, and a program that it becomes
// does not get it.
var helperEnv = []string{"GOGC=off", "GOMAXPROCS=1"}

// answerFD is the descriptor on which a helper answers. A helper that becomes a
// program answers with nothing: its end of the pipe closes.
const answerFD = 3

const (
	// fileTime is how long a file may take to answer.
	fileTime = 5 * time.Second
	// maxHelpers bounds the helpers of one user whose file has not answered. A
	// helper in the middle of a call of a dead file system can't be killed: it
	// counts until that file system ends.
	maxHelpers = 16
	// maxAnswer bounds an answer, in bytes.
	maxAnswer = 16 << 10
)

// help is what a helper does: args say as which user, what, and with which path. It
// becomes that user by itself, and not irmd before the start: irmd waits until a process
// that it starts executes this program, and the user may stop its own processes. Done
// says whether args are a helper's.
//
// This thread alone becomes that user, and does all of the work. To change the others
// takes a signal to each, and they end when the program starts.
func help(args []string) (status int, done bool) {
	if len(args) < 4 || args[0] != helperWord {
		return 0, false
	}
	if _, err := unix.FcntlInt(answerFD, unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return 0, false // irmd has not started it
	}
	runtime.LockOSThread()
	text := ""
	err := becomeUser(args[1])
	if err == nil {
		err = endWithIRMd()
	}
	switch what, path := args[2], args[3]; {
	case err != nil:
		text = err.Error()
	case what == "run":
		text = become(path, args[3:]).Error()
	case what == "find":
		text = find(path).text()
	}
	if _, err := os.NewFile(answerFD, "answer").WriteString(text); err != nil {
		return 1, true
	}
	return 0, true
}

// word returns the account who as an argument of a helper; "" where the helper is to
// stay the user that irmd is.
func (who account) word() (string, error) {
	if os.Geteuid() != 0 {
		return "", nil
	}
	if len(who.groups) == 0 || who.uid < 0 || slices.Min(who.groups) < 0 {
		return "", fmt.Errorf("the groups of uid %d are not known", who.uid)
	}
	w := strconv.Itoa(who.uid)
	for _, g := range who.groups {
		w += "," + strconv.Itoa(g)
	}
	return w, nil
}

// becomeUser makes this thread one of the user that word says.
func becomeUser(word string) error {
	if word == "" {
		return nil
	}
	var ids []int
	for f := range strings.SplitSeq(word, ",") {
		id, err := strconv.Atoi(f)
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	if len(ids) < 2 {
		return fmt.Errorf("%w: a helper for %q", core.ErrInternal, word)
	}
	uid, gid, groups := ids[0], ids[1], ids[2:]
	// Root of a user namespace may not set groups, and need not where they are its
	// own.
	if own, err := unix.Getgroups(); err != nil || !slices.Equal(own, groups) {
		if err := unix.Setgroups(groups); err != nil {
			return os.NewSyscallError("setgroups", err)
		}
	}
	// Setresuid of package unix changes all threads.
	if _, _, err := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); err != 0 {
		return os.NewSyscallError("setresgid", err)
	}
	if _, _, err := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); err != 0 {
		return os.NewSyscallError("setresuid", err)
	}
	// The user may not trace this process, whose other threads are root's. The
	// kernel sees to that, unless it is told to let all processes be debugged.
	return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
}

// endWithIRMd has the kernel send SIGTERM to this process when irmd ends. The kernel
// notes that for the thread that asks, and forgets it when the thread ends or becomes
// another user's. The thread that executes a program is the one that stays.
func endWithIRMd() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	fds := []unix.PollFd{{Fd: answerFD}}
	if n, _ := unix.Poll(fds, 0); n > 0 {
		return errors.New("irmd has ended") // nobody reads the answer
	}
	return nil
}

// become makes this process run the program at path. It returns why it could not. A
// signal does to a helper what it will do to the program.
func become(path string, args []string) error {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return slices.Contains(helperEnv, v) })
	return fmt.Errorf("%w", syscall.Exec(path, args, env))
}

// place is where a path leads. The strings are empty where it leads nowhere.
type place struct {
	canonical string // without symlinks in the directory
	resolved  string // without any symlink
	dev, ino  uint64 // of the file
}

// find follows path. It may wait for ever.
func find(path string) (p place) {
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		p.canonical = filepath.Join(dir, filepath.Base(path))
	}
	p.resolved, _ = filepath.EvalSymlinks(path)
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil {
		p.dev, p.ino = st.Dev, st.Ino
	}
	return p
}

// text writes p for irmd, parsePlace reads that.
func (p place) text() string {
	return strings.Join([]string{p.canonical, p.resolved, strconv.FormatUint(p.dev, 10), strconv.FormatUint(p.ino, 10)}, "\x00")
}

func parsePlace(s string) (p place, err error) {
	f := strings.Split(s, "\x00")
	if len(f) != 4 {
		return p, fmt.Errorf("%w: a helper answers %q", core.ErrInternal, s[:min(len(s), 100)])
	}
	p.canonical, p.resolved = f[0], f[1]
	if p.dev, err = strconv.ParseUint(f[2], 10, 64); err == nil {
		p.ino, err = strconv.ParseUint(f[3], 10, 64)
	}
	return p, err
}

// helpers starts helpers and counts those that have not answered.
type helpers struct {
	forks chan func()
	held  *descriptors

	mu      sync.Mutex // guards the fields below
	waiting map[*helper]bool
	byUID   map[int]int // of helpers that have neither answered nor ended
	closed  bool
}

// newHelpers returns helpers. One thread starts all of them and lives as long as
// irmd: when that thread ends, also because irmd was killed, the kernel sends
// SIGTERM to the helpers and to the programs that they have become.
func newHelpers(held *descriptors) *helpers {
	hs := &helpers{forks: make(chan func()), held: held, waiting: make(map[*helper]bool), byUID: make(map[int]int)}
	go func() {
		runtime.LockOSThread()
		for f := range hs.forks {
			f()
		}
	}()
	return hs
}

// account is the user that a helper runs as. Groups has the main one first.
type account struct {
	uid    int
	groups []int
}

// helper is a helper, or the program that it has become.
type helper struct {
	hs     *helpers
	who    account
	owner  irm.Owner // the same, for hs.held
	cmd    *exec.Cmd
	pidfd  int           // for reap; -1: the kernel has none
	answer *os.File      // where it answers
	done   chan struct{} // closed when it is reaped

	mu      sync.Mutex // guards the fields below; held while a signal is sent
	counted bool       // in hs.byUID
	reaped  bool       // its number may be another process's
}

// start starts a helper that does what as the user who. It prints to out, which may be nil.
func (hs *helpers) start(who account, env []string, out *os.File, what ...string) (*helper, error) {
	as, err := who.word()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	// Not the path of the executable, which may be replaced or gone by now.
	cmd := exec.Command("/proc/self/exe", append([]string{helperWord, as}, what...)...)
	cmd.Args[0] = "irmd"
	cmd.Dir, cmd.Env, cmd.ExtraFiles = "/", append(env, helperEnv...), []*os.File{w}
	if out != nil {
		cmd.Stdout, cmd.Stderr = out, out
	}
	// A session of its own: Ctrl-C is for the irmd, and the terminal where irmd was
	// started is not for a program of another user, who could type there.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	h := &helper{hs: hs, who: who, owner: hs.held.owner(who), cmd: cmd, pidfd: -1, answer: r, done: make(chan struct{})}
	cmd.SysProcAttr.PidFD = &h.pidfd
	if err := hs.held.take(h.owner, helperFiles); err != nil {
		r.Close()
		return nil, err
	}
	if err := hs.add(h); err != nil {
		hs.held.give(h.owner, helperFiles)
		r.Close()
		return nil, err
	}
	forked := make(chan struct{})
	hs.forks <- func() {
		err = cmd.Start()
		close(forked)
	}
	<-forked
	if err != nil {
		h.answered()
		hs.held.give(h.owner, helperFiles)
		r.Close()
		return nil, err
	}
	if h.pidfd >= 0 {
		_ = unix.SetNonblock(h.pidfd, true) // else NewFile keeps it out of the poller
	}
	return h, nil
}

// add counts h, or says why it is one too many.
func (hs *helpers) add(h *helper) error {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.closed {
		return fmt.Errorf("%w: the IRMd is shutting down", core.ErrState)
	}
	if hs.byUID[h.who.uid] >= maxHelpers {
		return fmt.Errorf("%w: irmd waits for %d files of uid %d already", core.ErrLimit, maxHelpers, h.who.uid)
	}
	hs.byUID[h.who.uid]++
	hs.waiting[h] = true
	h.counted = true
	return nil
}

// answered says that h needs no more of its user's share.
func (h *helper) answered() {
	h.hs.mu.Lock()
	defer h.hs.mu.Unlock()
	delete(h.hs.waiting, h)
	if !h.counted {
		return
	}
	h.counted = false
	if h.hs.byUID[h.who.uid]--; h.hs.byUID[h.who.uid] == 0 {
		delete(h.hs.byUID, h.who.uid)
	}
}

// close ends all waits for an answer, and kills the helpers that have not given it.
func (hs *helpers) close() {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hs.closed = true
	for h := range hs.waiting {
		_ = h.answer.SetReadDeadline(time.Now())
	}
}

// await returns the answer of h. A helper that does not give it in time is killed.
func (h *helper) await() (string, error) {
	_ = h.answer.SetReadDeadline(time.Now().Add(fileTime))
	h.hs.mu.Lock()
	if h.hs.closed {
		_ = h.answer.SetReadDeadline(time.Now())
	}
	h.hs.mu.Unlock()
	b, err := io.ReadAll(io.LimitReader(h.answer, maxAnswer))
	h.answer.Close()
	if err != nil {
		h.signal(syscall.SIGKILL)
		h.hs.mu.Lock()
		delete(h.hs.waiting, h)
		h.hs.mu.Unlock()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("%w: the file does not answer: it is on a file system that hangs, or somebody holds a lease on it", core.ErrTimeout)
		}
		return "", err
	}
	h.answered()
	return string(b), nil
}

// reap waits for the end of h. The rest of its group is of no use without it.
func (h *helper) reap() error {
	h.awaitEnd()
	// Its number is its own until it is reaped.
	h.mu.Lock()
	_ = syscall.Kill(-h.cmd.Process.Pid, syscall.SIGTERM)
	h.reaped = true
	h.mu.Unlock()
	err := h.cmd.Wait()
	h.answered()
	h.hs.held.give(h.owner, helperFiles)
	close(h.done)
	return err
}

// awaitEnd returns when h has ended. It takes no thread, which a wait in the kernel
// does, where the kernel has pidfds: a user may have many programs.
func (h *helper) awaitEnd() {
	if h.pidfd >= 0 {
		f := os.NewFile(uintptr(h.pidfd), "pidfd")
		defer f.Close()
		if raw, err := f.SyscallConn(); err == nil {
			err = raw.Read(func(fd uintptr) bool { return ended(unix.P_PIDFD, int(fd), unix.WNOHANG) })
			if err == nil {
				return
			}
		}
	}
	ended(unix.P_PID, h.cmd.Process.Pid, 0)
}

// ended reports whether the child has ended. It is not reaped.
func ended(kind, id, options int) bool {
	for {
		var info unix.Siginfo
		err := unix.Waitid(kind, id, &info, unix.WEXITED|unix.WNOWAIT|options, nil)
		if !errors.Is(err, unix.EINTR) {
			return err != nil || info.Signo != 0
		}
	}
}

// signal sends sig to h and its group.
func (h *helper) signal(sig syscall.Signal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.reaped {
		_ = syscall.Kill(-h.cmd.Process.Pid, sig)
	}
}

// alive reports whether the number of h is its own.
func (h *helper) alive() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.reaped
}

// find follows path as the user who.
func (hs *helpers) find(who account, path string) (place, error) {
	h, err := hs.start(who, []string{}, nil, "find", path)
	if err != nil {
		return place{}, err
	}
	go h.reap()
	answer, err := h.await()
	if err != nil {
		return place{}, err
	}
	return parsePlace(answer)
}
