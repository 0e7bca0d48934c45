// Package irmd is the IRM daemon: it locks the runtime directory, listens on
// the socket, starts and reaps IPCPs, and translates between messages and
// package core/irm, which takes the decisions.
package irmd

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"o7s/applets"
	"o7s/applets/internal/config"
	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/irm"
	"o7s/core/logs"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// Applet returns the irmd applet for the layer types.
func Applet(types []ipcp.Type) applets.Applet {
	return applets.Applet{
		Name:    "irmd",
		Summary: "the IRM daemon: one for a machine, or for a user",
		Early:   help,
		Run: func(ctx context.Context, env *applets.Env) error {
			return applets.CLI(ctx, env, &cli.App{
				Usage:     "the IRM daemon: manages names, layers, processes and flows",
				UsageText: "irmd [--stdout] [--config FILE]",
				Description: "Start it first, then make a layer:\n\n" +
					"   $ sudo irmd --stdout\n" +
					"   $ irm ipcp bootstrap type local name local-ipcp layer local-layer\n\n" +
					"Without root it is this user's own. Its socket is irmd.sock in $O7S_RUNTIME_DIR,\n" +
					"else in /run/o7s for root, else in $XDG_RUNTIME_DIR/o7s, else in o7s-UID in the\n" +
					"temporary directory. Ctrl-C or SIGTERM ends it and the IPCPs.\n\n" +
					"What it is to make at its start may stand in a file:\n\n" +
					"   $ irm config export > irmd.toml\n" +
					"   $ irmd --check-config irmd.toml\n" +
					"   $ irmd --config irmd.toml\n\n" +
					"   [name.oping-server]\n" +
					"   lb = \"round-robin\"\n" +
					"   prog = [\"/usr/bin/oping\"]\n" +
					"   args = [\"--listen\"]\n\n" +
					"   [local.local-ipcp]\n" +
					"   bootstrap = \"local-layer\"\n" +
					"   reg = [\"oping-server\"]\n\n" +
					"As a service: irmd --systemd-unit | sudo tee /etc/systemd/system/o7s.service",
				Flags: append(applets.LogFlags(),
					&cli.StringFlag{Name: "config", Usage: "make what `FILE` says at the start: names, programs, IPCPs, layers"},
					&cli.StringFlag{Name: "check-config", Usage: "say whether `FILE` is such a file, and end"},
					&cli.BoolFlag{Name: "systemd-unit", Usage: "print the unit file for this irmd, and end", DisableDefaultText: true},
				),
				Action: func(c *cli.Context) error {
					switch {
					case c.Bool("systemd-unit"):
						_, err := fmt.Fprint(env.Stdout, systemdUnit())
						return err
					case c.IsSet("check-config"):
						return check(c.Context, env, c.String("check-config"), types)
					}
					// Ctrl-\ ends a daemon in order too, rather than with a dump.
					ctx, stop := applets.Until(c.Context, syscall.SIGQUIT)
					defer stop()
					if os.Getpid() == 1 {
						return runAsInit(ctx)
					}
					c.Context = ctx
					return run(c, env, types)
				},
			})
		},
	}
}

// check says what a config file holds.
func check(ctx context.Context, env *applets.Env, file string, types []ipcp.Type) error {
	items, err := readConfig(ctx, file, types)
	if err != nil {
		return err
	}
	names := 0
	for _, it := range items {
		if it.Name != nil {
			names++
		}
	}
	_, err = fmt.Fprintf(env.Stdout, "%s is fine: %s, %s.\n", file, applets.Count(names, "name"), applets.Count(len(items)-names, "IPCP"))
	return err
}

// daemon is an irmd that runs.
type daemon struct {
	log      *logs.Logger
	level    *slog.LevelVar
	dir      string // the runtime directory
	m        *irm.Manager
	users    users
	watchers *watchers
	helpers  *helpers
	held     *descriptors

	mu    sync.Mutex // guards the fields below
	links map[*rpc.Link]bool
	count census // of links
}

func run(c *cli.Context, env *applets.Env, types []ipcp.Type) error {
	if rpc.KnownUID(os.Geteuid()) == rpc.NoID {
		return fmt.Errorf("%w: you have no uid in this user namespace, so this irmd could trust nobody and nobody it; \"unshare --map-root-user\" gives one", core.ErrPermission)
	}
	log, level, err := applets.OpenLog(c, env)
	if err != nil {
		return err
	}
	log = log.With("irmd")
	var items []config.Item
	if c.IsSet("config") {
		if items, err = readConfig(c.Context, c.String("config"), types); err != nil {
			return err
		}
	}
	systemd := newNotifier(log)
	dir := irmctl.RuntimeDir()
	var home *home
	if err = runningIn(irmctl.OtherDirs()); err == nil {
		home, err = takeHome(dir)
	}
	if running, ok := errors.AsType[alreadyRunning](err); ok {
		fmt.Fprintln(env.Stderr, running.Error())
		return applets.Exit(applets.StatusFailed)
	}
	if err != nil {
		return err
	}
	defer home.release()

	d := newDaemon(c, log, level, dir, types)
	links, err := d.linkConfig()
	if err != nil {
		return err
	}
	defer links.Watch.Close()
	if err := home.listen(); err != nil {
		return err
	}
	d.watchers = newWatchers(d.m, d.admin)
	log.Infof("Ouroboros IPC Resource Manager daemon started...")
	var serving sync.WaitGroup
	serve := func(ln *net.UnixListener) { serving.Go(func() { d.serve(ln, links) }) }
	serve(home.ln)
	ctx, stop := context.WithCancel(c.Context)
	defer stop()
	var lost error // that another irmd has the runtime directory
	var keeping sync.WaitGroup
	keeping.Go(func() {
		if lost = home.keep(ctx, log, serve); lost != nil {
			stop()
		}
	})
	err = load(c.Context, d.m, c.String("config"), items)
	if err == nil {
		systemd.tell("READY=1")
		<-ctx.Done()
	} else {
		log.Errorf("Failed to load the config: %v.", err)
	}
	stop()
	keeping.Wait()
	if lost != nil {
		log.Errorf("Another IRMd (%s) has the runtime directory %s now.", string(lost.(alreadyRunning)), dir)
		err = applets.Exit(applets.StatusFailed)
	}
	systemd.tell("STOPPING=1")
	log.Infof("IRMd shutting down...")
	home.close()
	d.helpers.close()
	serving.Wait()
	d.m.Stop()
	d.watchers.close()
	d.disconnect()
	log.Infof("Bye.")
	return err
}

// newDaemon returns the daemon of the runtime directory dir. It has no socket yet.
func newDaemon(c *cli.Context, log *logs.Logger, level *slog.LevelVar, dir string, types []ipcp.Type) *daemon {
	d := &daemon{log: log, level: level, dir: dir, links: make(map[*rpc.Link]bool), users: users{byPID: make(map[int]*process)}}
	d.held = newDescriptors(func(who account) bool { return d.m.Administers(irm.Caller{UID: who.uid, Groups: who.groups}) })
	d.helpers = newHelpers(d.held)
	spawn := &spawner{args: func() []string { return applets.LogArgs(c, level) }}
	d.m = irm.New(irm.Config{
		Log: log, Types: types, Memory: &memory{held: d.held},
		Spawner: spawn, Starter: &starter{dir: dir, log: log, helpers: d.helpers},
		Security: newSecurity(config.Dir()), Encrypts: true,
		UID: os.Geteuid(), Admins: sudoer(), AdminGID: adminGroup(),
	})
	spawn.m = d.m
	d.count = newCensus(d.admin)
	return d
}

// linkConfig returns what all connections of processes share.
func (d *daemon) linkConfig() (rpc.Config, error) {
	// The instance tells this irmd from the one before a restart: a process
	// never takes a flow of that one for a flow of this one.
	var seed [8]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return rpc.Config{}, err
	}
	watch, err := rpc.WatchPeers()
	if err != nil {
		return rpc.Config{}, err
	}
	shares := rpc.NewShares(runtime.GOMAXPROCS(0), userCalls)
	shares.Files = d.held
	return rpc.Config{
		Mux:      d.userMux(),
		Watch:    watch,
		Shares:   shares,
		Instance: binary.LittleEndian.Uint64(seed[:]) | 1,
		Admit:    d.admit,
		NoFiles:  true,
		OnEnd:    d.userGone,
		Limits:   rpc.Limits{Calls: irmctl.MaxCalls},
	}, nil
}

// serve takes connections until the listener is closed.
func (d *daemon) serve(ln *net.UnixListener, cfg rpc.Config) {
	for {
		conn, err := ln.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// No descriptor is left. Processes that are connected go on. When
			// one ends, there is room.
			d.log.Errorf("Failed to accept a connection: %v.", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		d.adopt(conn, cfg)
	}
}

// adopt makes conn a link, and remembers it for the end.
func (d *daemon) adopt(conn *net.UnixConn, cfg rpc.Config) {
	d.mu.Lock()
	defer d.mu.Unlock() // userGone removes the link, so it must come later
	l, err := rpc.New(conn, cfg)
	if err != nil {
		d.log.Warnf("Failed to take a connection: %v.", err)
		return
	}
	d.links[l] = true
}

// admin reports whether p is an administrator's.
func (d *daemon) admin(p rpc.Peer) bool {
	return p.UID != rpc.NoID && d.m.Administers(irm.Caller{PID: p.PID, UID: p.UID, Groups: append([]int{p.GID}, p.Groups...)})
}

// admit counts a connection; d.mu is held.
func (d *daemon) admit(p rpc.Peer) error {
	err := d.count.add(p)
	if p.UID == rpc.NoID {
		err = fmt.Errorf("%w: your user has no uid in the user namespace of the IRMd", core.ErrPermission)
	}
	if err != nil {
		d.log.Debugf("Refused a connection: %v.", err)
	}
	return err
}

// disconnect closes all links and waits until they have ended.
func (d *daemon) disconnect() {
	d.mu.Lock()
	links := make([]*rpc.Link, 0, len(d.links))
	for l := range d.links {
		links = append(links, l)
	}
	d.mu.Unlock()
	for _, l := range links {
		l.Close()
	}
	for _, l := range links {
		<-l.Done()
	}
}

// sudoer returns the user who started this irmd with sudo.
func sudoer() []int {
	if os.Geteuid() != 0 {
		return nil
	}
	uid, err := strconv.Atoi(os.Getenv("SUDO_UID"))
	if err != nil || uid < 0 {
		return nil
	}
	return []int{uid}
}

// adminGroup returns the gid of the group ouroboros, -1 where there is none.
func adminGroup() int {
	g, err := user.LookupGroup("ouroboros")
	if err != nil {
		return -1
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return -1
	}
	return gid
}
