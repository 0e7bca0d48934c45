package applets

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"o7s/core/logs"
)

// man writes a manual page for each applet, and one for o7s, to dir.
func man(ctx context.Context, out io.Writer, dir string, table []Applet) error {
	if err := mkdir(out, dir); err != nil {
		return fmt.Errorf("man: %w", err)
	}
	write := func(name, text string) error {
		if err := writeOwn(out, filepath.Join(dir, name+".8"), []byte(text)); err != nil {
			return fmt.Errorf("man: %w", err)
		}
		return nil
	}
	var pages []string
	for _, a := range table {
		if a.Hidden {
			continue
		}
		pages = append(pages, a.Name)
		text := ""
		if a.Manual != nil {
			text = a.Manual()
		} else {
			text = manual(a, appOf(ctx, a))
		}
		if err := write(a.Name, text); err != nil {
			return err
		}
	}
	p := NewPage("o7s", "the Ouroboros recursive network in one executable")
	p.Section("SYNOPSIS")
	p.Code("o7s APPLET [ARGUMENTS]\nAPPLET [ARGUMENTS]      where APPLET is a symlink to o7s")
	p.Section("APPLETS")
	for _, a := range table {
		if !a.Hidden {
			p.Item(a.Name, a.Summary)
		}
	}
	p.Section("COMMANDS")
	for _, c := range multiCommands {
		p.Item(strings.TrimSpace("o7s "+c.name+" "+c.args), c.summary)
	}
	p.Finish(pages...)
	return write("o7s", p.String())
}

// manual returns the page of an applet whose command line is flags.
func manual(a Applet, app *cli.App) string {
	p := NewPage(a.Name, a.Summary)
	p.Section("SYNOPSIS")
	p.Code(app.UsageText)
	if app.Description != "" {
		p.Section("DESCRIPTION")
		p.prose(app.Description)
	}
	p.Section("OPTIONS")
	for _, f := range app.VisibleFlags() {
		// As --help shows it: names, a tab, what it does.
		names, usage, _ := strings.Cut(f.String(), "\t")
		p.Item(names, strings.TrimSpace(usage))
	}
	p.Item("--help, -h", "explain it")
	p.Item("--version, -v", "print the version")
	if notes, ok := app.Metadata[notesKey].(string); ok {
		p.Section("NOTES")
		p.prose(notes)
	}
	p.Finish("o7s", "irmd", "irm")
	return p.String()
}

// Page is a manual page in the making.
type Page struct {
	name string
	b    strings.Builder
}

// NewPage begins the page of name.
func NewPage(name, summary string) *Page {
	p := &Page{name: name}
	fmt.Fprintf(&p.b, ".TH %s 8 \"\" \"o7s %s\" \"Ouroboros\"\n", roff(strings.ToUpper(name)), Version)
	p.b.WriteString(".nh\n.ad l\n") // a path or a command in the text has no hyphen, and one blank between words
	p.Section("NAME")
	fmt.Fprintf(&p.b, "%s \\- %s\n", roff(name), roff(summary))
	return p
}

// Section begins a section, Sub a part of one.
func (p *Page) Section(title string) { fmt.Fprintf(&p.b, ".SH %s\n", roff(title)) }

// Sub begins a part of a section.
func (p *Page) Sub(title string) { fmt.Fprintf(&p.b, ".SS %s\n", roff(title)) }

// Text writes a paragraph, which may be filled anew.
func (p *Page) Text(text string) {
	fmt.Fprintf(&p.b, ".PP\n%s\n", roff(text))
}

// Code writes lines as they are.
func (p *Page) Code(text string) {
	fmt.Fprintf(&p.b, ".PP\n.nf\n%s\n.fi\n", roff(strings.TrimRight(text, "\n")))
}

// prose writes text as a help shows it. Lines that begin with a blank stay as
// they are. The others are paragraphs. A line that ends with a full stop stays a
// line, so that a list stays a list.
func (p *Page) prose(text string) {
	const paragraph, code = 'p', 'c'
	in := ' '
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		now := paragraph
		switch {
		case line == "":
			now = ' '
		case line[0] == ' ':
			now = code
		}
		if now != in {
			if in == code {
				p.b.WriteString(".fi\n")
			}
			if now != ' ' {
				p.b.WriteString(".PP\n")
			}
			if now == code {
				p.b.WriteString(".nf\n")
			}
		}
		if in = now; in != ' ' {
			fmt.Fprintf(&p.b, "%s\n", roff(line))
		}
		if in == paragraph && strings.HasSuffix(line, ".") {
			p.b.WriteString(".br\n")
		}
	}
	if in == code {
		p.b.WriteString(".fi\n")
	}
}

// Item writes a word and what it means.
func (p *Page) Item(word, meaning string) {
	fmt.Fprintf(&p.b, ".TP\n\\fB%s\\fR\n%s\n", roff(word), roff(meaning))
}

// Finish writes what all pages end with.
func (p *Page) Finish(also ...string) {
	p.Section("EXIT STATUS")
	p.Item("0", "it is done")
	p.Item("1", "it failed: one line on standard error says what was tried, why not, and what to do")
	p.Item("2", "it was called the wrong way")
	p.Section("ENVIRONMENT")
	p.Item("O7S_CONFIG_DIR", "the folder with the certificates and settings of flows to other systems, in security; else /etc/ouroboros for root, and for others o7s in the configuration folder")
	p.Item("O7S_RUNTIME_DIR", "the runtime directory, where irmd has its socket; else /run/o7s for root, and for others $XDG_RUNTIME_DIR/o7s or, without that, o7s-UID in the temporary directory")
	p.Item("NO_COLOR", "without colours, if it is set to something")
	var refs []string
	for _, a := range also {
		if a != p.name {
			refs = append(refs, a+"(8)")
		}
	}
	p.Section("SEE ALSO")
	p.Text(strings.Join(refs, ", "))
}

// String returns the page.
func (p *Page) String() string { return p.b.String() }

// roff escapes text for roff, which then shows it unchanged.
func roff(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		l = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "\t", "    ").Replace(logs.Escape(strings.ReplaceAll(l, "\t", "    ")))
		if strings.HasPrefix(l, ".") {
			l = `\&` + l
		}
		lines[i] = l
	}
	return strings.Join(lines, "\n")
}
