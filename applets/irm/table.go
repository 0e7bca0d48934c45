package irm

import (
	"fmt"
	"slices"
	"strings"

	"o7s/core/logs"
)

// table is what a listing prints: columns with a title, aligned to the right, in a
// frame. A column has the width that it is given, or that of its widest cell if that
// is larger.
type table []column

type column struct {
	title string
	width int // in columns of the terminal
	spare int // a narrow terminal does without the highest first; 0: it never does
	cells []string
}

// add adds a row. It escapes the cells.
func (t table) add(cells ...string) {
	for i, s := range cells {
		s = logs.Escape(s)
		t[i].cells = append(t[i].cells, s)
		t[i].width = max(t[i].width, width(s))
	}
}

// print writes the table.
func (t table) print(w *screen) {
	t = t.fit(w.width)
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

// least is the width below which fit narrows no column.
const least = 6

// fit returns t made narrow enough for a terminal with that many columns; 0 means any
// width. It removes first the space that no cell needs, then the columns that can be
// spared. Then it shortens the cells of the widest column.
func (t table) fit(columns int) table {
	total := 1
	for _, c := range t {
		total += c.width + 3
	}
	for i := range t {
		if columns == 0 || total <= columns {
			return t
		}
		need := width(t[i].title)
		for _, s := range t[i].cells {
			need = max(need, width(s))
		}
		spare := min(t[i].width-need, total-columns)
		t[i].width -= spare
		total -= spare
	}
	for total > columns {
		most := 0
		for i, c := range t {
			if c.spare > t[most].spare {
				most = i
			}
		}
		if t[most].spare == 0 {
			break
		}
		total -= t[most].width + 3
		t = slices.Delete(slices.Clone(t), most, most+1)
	}
	for total > columns {
		widest := 0
		for i, c := range t {
			if c.width > t[widest].width {
				widest = i
			}
		}
		if t[widest].width <= least {
			break // what is left is narrower than any table
		}
		t[widest].width--
		total--
	}
	for i, c := range t {
		t[i].title = cut(c.title, c.width)
		for j, s := range c.cells {
			c.cells[j] = cut(s, c.width)
		}
	}
	return t
}

// cut returns s, or its beginning and an ellipsis, in n columns of a terminal.
func cut(s string, n int) string {
	if width(s) <= n {
		return s
	}
	short := ""
	for _, r := range s {
		if width(short+string(r)) > n-1 {
			break
		}
		short += string(r)
	}
	return short + "…"
}
