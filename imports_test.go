package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The architecture: main -> applets -> ipc -> core, never back; each package
// of others has one home. Tests may import what they like.
var (
	// layers lists the folders from the top down: none imports one above it.
	layers = []string{".", "applets", "ipc", "core"}

	// homes says where a package of others, by prefix, may be imported.
	homes = map[string]struct{ dirs, why string }{
		"github.com/urfave/cli":           {"applets", "the command line is an applet's business"},
		"github.com/vmihailenco/":         {"ipc/rpc", "one package knows how a message looks"},
		"github.com/BurntSushi/toml":      {"applets/internal/config", "one package knows the config file"},
		"golang.org/x/crypto/sha3":        {"core/hash", "one package hashes names"},
		"golang.org/x/crypto/chacha20":    {"core/crypt", "one package seals packets"},
		"golang.org/x/crypto/blake2":      {"core/oap", "digests of the handshake"},
		"google.golang.org/protobuf/":     {"core/ipcp/internal/pb", "one package reads the fields of protocol buffers"},
		"golang.org/x/net/dns/":           {"core/ipcp/udp", "one layer type speaks to DNS servers"},
		"github.com/vishvananda/netlink":  {"ipc/port applets", "one package watches network devices"},
		"golang.org/x/sys":                {"ipc applets", "core makes no system call"},
		"golang.org/x/term":               {"applets", "a terminal is an applet's business"},
		"github.com/rogpeppe/go-internal": {"", "scenarios are tests"},
	}

	// coreShuns lists what makes a node that runs in one test process
	// impossible.
	coreShuns = map[string]string{
		"os/exec": "core starts no process", "os/signal": "core takes no signal", "syscall": "core makes no system call",
		"unsafe": "core maps no memory",
	}
)

func TestImports(t *testing.T) {
	fset := token.NewFileSet()
	packages := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || path == "examples") { // a module of its own
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		packages++
		f, err := parser.ParseFile(fset, path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if why := forbidden(dir, imported); why != "" {
				t.Errorf("%s imports %s: %s", path, imported, why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if packages < 40 {
		t.Errorf("saw %d files only: is this the project's root?", packages)
	}
}

// forbidden returns why a file in dir may not import a package, or "".
func forbidden(dir, imported string) string {
	if own, ok := strings.CutPrefix(imported, "o7s/"); ok {
		if level(own) < level(dir) {
			return "main -> applets -> ipc -> core, never back"
		}
		if own == "core/registry" && dir != "core/irm" {
			return "the tables are package irm's: others get copies and handles"
		}
		if forTests(own) && !forTests(dir) {
			return "a package for tests"
		}
		return ""
	}
	if strings.HasPrefix(dir, "core") {
		if why := coreShuns[imported]; why != "" {
			return why
		}
	}
	for prefix, home := range homes {
		if !strings.HasPrefix(imported, prefix) {
			continue
		}
		for _, d := range strings.Fields(home.dirs) {
			if dir == d || strings.HasPrefix(dir, d+"/") {
				return ""
			}
		}
		return home.why
	}
	if strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") {
		return "no package of others without a home in this list"
	}
	return ""
}

// forTests reports whether a package is for tests alone: the name of its folder, or of
// one above it, says so.
func forTests(dir string) bool {
	return slices.ContainsFunc(strings.Split(dir, "/"), func(name string) bool {
		return strings.HasSuffix(name, "test") || name == "testkit" || name == "sim"
	})
}

// Each package has a row in the table of docs/architecture.md.
func TestArchitecture(t *testing.T) {
	text, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "## The storeys")
	table, _, _ = strings.Cut(table, "\n## ")
	rows := packageRows(table)
	var packages []string
	err = filepath.WalkDir(".", func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || dir == "." {
			return err
		}
		if strings.HasPrefix(d.Name(), ".") || dir == "examples" { // a module of its own
			return fs.SkipDir
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if len(files) > 0 {
			packages = append(packages, filepath.ToSlash(dir))
		}
		return err
	})
	if err != nil || len(packages) < 50 {
		t.Fatalf("found %d packages: %v", len(packages), err)
	}
	for _, dir := range packages {
		if !slices.Contains(rows, dir) {
			t.Errorf("docs/architecture.md: the table of the storeys has no row for %s", dir)
		}
	}
	for _, dir := range rows {
		if !slices.Contains(packages, dir) && dir != "main.go" {
			t.Errorf("docs/architecture.md: the table of the storeys has a row for %s, which does not exist", dir)
		}
	}
}

// packageRows returns the packages that the first column of a table names. In a row of
// several packages the second and the ones that follow may be named without the folder,
// which is then that of the first.
func packageRows(table string) (rows []string) {
	for line := range strings.Lines(table) {
		cell, ok := strings.CutPrefix(line, "| `")
		if !ok {
			continue
		}
		cell, _, _ = strings.Cut(cell, "` |")
		names := strings.Split(cell, "`, `")
		for _, name := range names {
			if !strings.Contains(name, "/") {
				name = path.Join(path.Dir(names[0]), name)
			}
			rows = append(rows, name)
		}
	}
	return rows
}

func TestPackageRows(t *testing.T) {
	got := packageRows("| package | job |\n|---|---|\n| `core` | a |\n| `a/b`, `c`, `d/e` | `x/y` |\n")
	if want := []string{"core", "a/b", "a/c", "d/e"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestCoreOpensNoSocket holds what imports can't show: core may name the
// addresses of package net, and no function of it that opens a socket.
func TestCoreOpensNoSocket(t *testing.T) {
	fset := token.NewFileSet()
	files := 0
	err := filepath.WalkDir("core", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files++
		f, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		for _, call := range opensSocket(f) {
			t.Errorf("%s: core opens no socket: %s", fset.Position(call.Pos()), call.Sel.Name)
		}
		return nil
	})
	if err != nil || files < 20 {
		t.Errorf("%v; saw %d files", err, files)
	}
}

// opensSocket returns the uses of package net that open sockets or look up names.
func opensSocket(f *ast.File) (found []*ast.SelectorExpr) {
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "net" {
				for _, prefix := range []string{"Dial", "Listen", "Lookup", "Resolve", "FileConn", "FileListener", "FilePacketConn", "DefaultResolver", "Interface"} {
					if strings.HasPrefix(s.Sel.Name, prefix) {
						found = append(found, s)
					}
				}
			}
		}
		return true
	})
	return found
}

func TestOpensSocket(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nimport \"net\"\nvar a, b, c = net.Dial, net.ListenUDP, net.ErrClosed\n", 0)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(opensSocket(f)); n != 2 {
		t.Errorf("found %d, want 2", n)
	}
}

// level returns the place of a folder in layers. ipc/ipctest stands above all of them:
// it starts an IRMd for the tests of other modules.
func level(dir string) int {
	if dir == "ipc/ipctest" {
		return 0
	}
	top, _, _ := strings.Cut(dir, "/")
	for i, l := range layers {
		if l == top {
			return i
		}
	}
	return -1
}

func TestForbidden(t *testing.T) {
	tests := []struct {
		dir, imported string
		ok            bool
	}{
		{".", "o7s/applets/irmd", true},
		{"applets/irmd", "o7s/core/irm", true},
		{"ipc", "o7s/core", true},
		{"ipc/ipctest", "o7s/applets/irmd", true},
		{"ipc", "o7s/ipc/ipctest", false},
		{"applets", "o7s/ipc/ipctest", false},
		{"core/irm", "o7s/ipc", false},
		{"ipc/rpc", "o7s/applets", false},
		{"core", "net", true},
		{"core/irm", "os/exec", false},
		{"core/irm", "golang.org/x/sys/unix", false},
		{"ipc/internal/shm", "golang.org/x/sys/unix", true},
		{"ipc", "github.com/urfave/cli/v2", false},
		{"core/irm", "golang.org/x/crypto/sha3", false},
		{"core/hash", "golang.org/x/crypto/sha3", true},
		{"core/ipcp/udp", "golang.org/x/net/dns/dnsmessage", true},
		{"core/ipcp/udp", "o7s/core/ipcp/port/porttest", false},
		{"core/ipcp/ipcptest", "o7s/core/ipcp/port/porttest", true},
		{"core/ipcp/carry", "o7s/core/clock/clocktest", false},
		{"core/ipcp/unicast", "o7s/core/ipcp/unicast/sim", false},
		{"core/ipcp/unicast/sim", "o7s/core/clock/clocktest", true},
		{"applets", "github.com/rogpeppe/go-internal/testscript", false},
		{"applets", "example.org/x", false},
	}
	for _, tt := range tests {
		if why := forbidden(tt.dir, tt.imported); (why == "") != tt.ok {
			t.Errorf("%s may import %s: %v, %q", tt.dir, tt.imported, !tt.ok, why)
		}
	}
}

// TestRegistryIsItsOwn: nobody but package registry changes its records. Package irm
// reads them, under its lock; nobody else has them.
func TestRegistryIsItsOwn(t *testing.T) {
	fset := token.NewFileSet()
	parse := func(dir string, each func(path string, f *ast.File)) {
		t.Helper()
		paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(paths) == 0 {
			t.Fatal(dir, err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(fset, path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			each(path, f)
		}
	}
	records := map[string]bool{"Flow": true, "Process": true, "Listener": true, "IPCP": true, "Name": true, "Binding": true, "BoundProgram": true}
	fields := make(map[string]bool) // of a record
	parse("core/registry", func(_ string, f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			if t, ok := n.(*ast.TypeSpec); ok && records[t.Name.Name] {
				if s, ok := t.Type.(*ast.StructType); ok {
					for _, field := range s.Fields.List {
						for _, name := range field.Names {
							fields[name.Name] = name.IsExported()
						}
					}
				}
			}
			return true
		})
	})
	if len(fields) < 40 || !fields["Arriving"] || fields["busy"] {
		t.Fatalf("found %d fields of records", len(fields))
	}
	// Fields of others that have the name of a record's.
	others := map[string]bool{
		"core/irm/member.go: one.QoS": true, "core/irm/see.go: r.Policy": true,
	}
	parse("core/irm", func(path string, f *ast.File) {
		for _, w := range writes(f, fields) {
			if x, ok := w.X.(*ast.Ident); !ok || !others[path+": "+x.Name+"."+w.Sel.Name] {
				t.Errorf("%s: the registry's %s is written by a method of the registry", fset.Position(w.Pos()), w.Sel.Name)
			}
		}
	})
}

func TestWrites(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "x.go", `package x
func (m *M) f(l *Listener) {
	l.Credit += 1
	l.Process.Arriving++
	f.From, n = from, l.Credit
	p := &i.PID
	own := T{}
	own.PID = l.Credit
}`, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range writes(f, map[string]bool{"Credit": true, "Arriving": true, "From": true, "PID": true}) {
		got = append(got, w.Sel.Name)
	}
	if want := []string{"Credit", "Arriving", "From", "PID"}; !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
}

// writes returns where f writes a field with one of the names, of something that it
// has not made itself.
func writes(f *ast.File, fields map[string]bool) (found []*ast.SelectorExpr) {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		own := make(map[string]bool) // variables that hold a new value of another type
		note := func(e ast.Expr) {
			if s, ok := e.(*ast.SelectorExpr); ok && fields[s.Sel.Name] {
				if x, ok := s.X.(*ast.Ident); !ok || !own[x.Name] {
					found = append(found, s)
				}
			}
		}
		ast.Inspect(fn, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for i, l := range n.Lhs {
					if id, ok := l.(*ast.Ident); ok && n.Tok == token.DEFINE && i < len(n.Rhs) && isNew(n.Rhs[i]) {
						own[id.Name] = true
					}
					note(l)
				}
			case *ast.IncDecStmt:
				note(n.X)
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					note(n.X)
				}
			}
			return true
		})
	}
	return found
}

func isNew(e ast.Expr) bool {
	if u, ok := e.(*ast.UnaryExpr); ok && u.Op == token.AND {
		e = u.X
	}
	_, ok := e.(*ast.CompositeLit)
	return ok
}
