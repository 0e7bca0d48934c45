package irmctl

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"o7s/core"
	"o7s/ipc/rpc"
)

// Connect returns a link to the IRMd: to the one of $O7S_RUNTIME_DIR where
// that is set, else to this user's, else to root's. It trusts only an IRMd
// that runs as root or as this user. The error is core.ErrIRMd, and says how
// to start one or what else is wrong, or core.ErrPermission.
func Connect(ctx context.Context, cfg rpc.Config) (*rpc.Link, error) {
	l, _, err := connect(ctx, cfg)
	return l, err
}

// connect is Connect, and returns the runtime directory of the IRMd too.
func connect(ctx context.Context, cfg rpc.Config) (*rpc.Link, string, error) {
	dirs := append([]string{RuntimeDir()}, OtherDirs()...)
	if os.Getenv("O7S_RUNTIME_DIR") == "" && dirs[0] != systemDir {
		dirs = append(dirs, systemDir)
	}
	var first error
	for _, dir := range dirs {
		l, err := ConnectTo(ctx, dir, cfg)
		if err == nil {
			return l, dir, nil
		}
		if ctx.Err() != nil {
			return nil, "", core.ContextError(ctx.Err())
		}
		if first == nil {
			first = err
		}
	}
	return nil, "", first
}

// ConnectTo is Connect to the IRMd of the runtime directory dir.
func ConnectTo(ctx context.Context, dir string, cfg rpc.Config) (*rpc.Link, error) {
	err := checkSocket(dir)
	var conn *net.UnixConn
	if err == nil {
		conn, err = rpc.Dial(ctx, dir, Socket)
	}
	if err != nil {
		return nil, explainDial(dir, err)
	}
	cfg.DownErr = core.ErrIRMd
	l, err := rpc.New(conn, cfg)
	if err != nil {
		return nil, err
	}
	if uid := l.Peer().UID; uid != 0 && uid != os.Geteuid() {
		l.Close()
		if uid == rpc.NoID {
			return nil, fmt.Errorf("%w: the one on %s runs as a user that has no uid in this user namespace", core.ErrPermission, filepath.Join(dir, Socket))
		}
		return nil, fmt.Errorf("%w: the one on %s runs as uid %d, which is neither root nor you", core.ErrPermission, filepath.Join(dir, Socket), uid)
	}
	return l, nil
}

// Client asks an IRMd what an administrator asks. Its methods may be called
// by several goroutines at once.
type Client struct {
	link *rpc.Link
	dir  string // the IRMd's runtime directory
}

// Dial connects to the IRMd, as Connect does. The caller must Close the
// Client.
func Dial(ctx context.Context) (*Client, error) {
	link, dir, err := connect(ctx, rpc.Config{})
	if err != nil {
		return nil, err
	}
	return &Client{link, dir}, nil
}

// DialTo is Dial to the IRMd of the runtime directory dir.
func DialTo(ctx context.Context, dir string) (*Client, error) {
	link, err := ConnectTo(ctx, dir, rpc.Config{})
	if err != nil {
		return nil, err
	}
	return &Client{link, dir}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.link.Close() }

func do[Req, Resp any](ctx context.Context, c *Client, m rpc.Method[Req, Resp], req Req) (Resp, error) {
	r, err := rpc.Do(ctx, c.link, m, &req, nil)
	if err != nil {
		var zero Resp
		return zero, err
	}
	return r.Body, nil
}

// CreateIPCP starts an IPCP of type typ, in no layer yet, and returns its pid.
func (c *Client) CreateIPCP(ctx context.Context, name, typ string) (int, error) {
	r, err := do(ctx, c, CreateIPCP, IPCPReq{name, typ})
	return r.PID, err
}

// BootstrapIPCP makes an IPCP the first member of a layer and returns its pid.
func (c *Client) BootstrapIPCP(ctx context.Context, req BootstrapReq) (int, error) {
	r, err := do(ctx, c, BootstrapIPCP, req)
	return r.PID, err
}

// EnrollIPCP makes an IPCP a member of a layer that exists and returns its pid.
func (c *Client) EnrollIPCP(ctx context.Context, req EnrollReq) (int, error) {
	r, err := do(ctx, c, EnrollIPCP, req)
	return r.PID, err
}

// ConnectIPCP connects an IPCP to another member of its layer.
func (c *Client) ConnectIPCP(ctx context.Context, req ConnectReq) error {
	_, err := do(ctx, c, ConnectIPCP, req)
	return err
}

// DisconnectIPCP ends that.
func (c *Client) DisconnectIPCP(ctx context.Context, req ConnectReq) error {
	_, err := do(ctx, c, DisconnectIPCP, req)
	return err
}

// DestroyIPCP ends an IPCP and waits until it is gone.
func (c *Client) DestroyIPCP(ctx context.Context, name string) error {
	_, err := do(ctx, c, DestroyIPCP, IPCPReq{Name: name})
	return err
}

// BindProcess lets process pid accept flows for name.
func (c *Client) BindProcess(ctx context.Context, pid int, name string) error {
	_, err := do(ctx, c, BindProcess, BindReq{pid, name})
	return err
}

// UnbindProcess takes that back; an empty name means all names of pid.
func (c *Client) UnbindProcess(ctx context.Context, pid int, name string) error {
	_, err := do(ctx, c, UnbindProcess, BindReq{pid, name})
	return err
}

// CreateName makes a name. The policy is round-robin or spillover; "" is
// round-robin.
func (c *Client) CreateName(ctx context.Context, name, policy string) error {
	_, err := do(ctx, c, CreateName, NameReq{name, policy})
	return err
}

// DestroyName unregisters a name everywhere and forgets it.
func (c *Client) DestroyName(ctx context.Context, name string) error {
	_, err := do(ctx, c, DestroyName, NameReq{Name: name})
	return err
}

// RegisterName makes a name known in layers and with IPCPs. A name that does
// not exist is created, with the policy spillover.
func (c *Client) RegisterName(ctx context.Context, req RegisterReq) error {
	_, err := do(ctx, c, RegisterName, req)
	return err
}

// UnregisterName takes that back.
func (c *Client) UnregisterName(ctx context.Context, req RegisterReq) error {
	_, err := do(ctx, c, UnregisterName, req)
	return err
}
