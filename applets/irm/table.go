package irm

import (
	"fmt"
	"io"
	"strings"

	"o7s/core/logs"
)

// table is what a listing prints: columns with a title, right aligned, in a
// frame. A column is as wide as said, or as its widest cell needs.
type table []column

type column struct {
	title string
	width int // in columns of the terminal
	cells []string
}

// add adds a row. Its cells come from elsewhere: what does not print in them
// is escaped.
func (t table) add(cells ...string) {
	for i, s := range cells {
		s = logs.Escape(s)
		t[i].cells = append(t[i].cells, s)
		t[i].width = max(t[i].width, width(s))
	}
}

// print writes the table.
func (t table) print(w io.Writer) {
	frame := "+"
	for _, c := range t {
		frame += strings.Repeat("-", c.width+2) + "+"
	}
	row := func(cell func(c column) string) {
		line := "|"
		for _, c := range t {
			s := cell(c)
			line += strings.Repeat(" ", c.width-width(s)+1) + s + " |"
		}
		fmt.Fprintln(w, line)
	}
	fmt.Fprintln(w, frame)
	row(func(c column) string { return c.title })
	fmt.Fprintln(w, frame)
	for i := range t[0].cells {
		row(func(c column) string { return c.cells[i] })
	}
	fmt.Fprintln(w, frame)
}
