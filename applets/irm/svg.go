package irm

import (
	"cmp"
	"fmt"
	"html"
	"slices"
	"strings"
)

// The measures of a picture, in pixels. The font has characters of one width.
const (
	charW   = 7.4 // somewhat more than a character of the font takes
	lineH   = 17.0
	padX    = 12.0
	padY    = 9.0
	gapX    = 26.0 // between boxes beside each other, and between layers
	gapY    = 84.0 // between rows: the edges are there
	frameX  = 18.0 // between a layer's frame and what is in it
	frameY  = 14.0
	arcH    = 46.0 // below members that have edges between them
	rowW    = 1200.0
	margin  = 28.0
	headH   = 34.0 // for the title
	legendH = 34.0 // for the legend, at the bottom
	maxText = 44   // columns of text in a box; more is cut off and shown as a tip
)

const svgStyle = `
  text { font: 12px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1d2733; }
  .title { font-size: 13px; fill: #5b6775; }
  .frame { font-weight: 700; fill: #5b6775; }
  .what { font-weight: 700; }
  .edge { font-size: 10px; fill: #5b6775; text-anchor: middle; paint-order: stroke; stroke: #fff; stroke-width: 3px; }
  .legend { font-size: 11px; fill: #5b6775; }
  rect { stroke-width: 1.5; fill: #fff; stroke: #8793a1; }
  .flow { fill: #e9f3ff; stroke: #3b7dc4; }
  .process { fill: #f6f7f9; }
  .program { fill: #fff; stroke-dasharray: 5 3; }
  .name { fill: #eaf7ee; stroke: #35915a; }
  .layer { fill: #fdf3e3; stroke: #bd8323; }
  .elsewhere { fill: #fff; stroke: #bd8323; stroke-dasharray: 5 3; }
  rect.frame { fill: #fbfbfc; stroke: #c9d0d8; stroke-width: 1; }
  .bad { stroke: #c8402f; }
  path { fill: none; stroke: #8793a1; stroke-width: 1.5; }
  path.client, path.server { stroke: #3b7dc4; }
  path.bound, path.auto { stroke: #35915a; }
  path.auto { stroke-dasharray: 5 3; }
  path.known { stroke: #bd8323; }
  path.carried { stroke-dasharray: 2 3; }
  path.joined { stroke: #bd8323; stroke-width: 3; }
`

// measure gives each box its size, and returns the sizes of the rows that they make:
// no row is much wider than rowW.
func measure(boxes []*box) (w, h float64) {
	line, tallest := 0.0, 0.0
	for _, b := range boxes {
		b.w, b.h = 0, 2*padY+lineH*float64(len(b.lines))
		for _, l := range b.lines {
			b.w = max(b.w, 2*padX+charW*float64(min(width(l), maxText)))
		}
		if line > 0 && line+gapX+b.w > rowW {
			h += tallest + gapX
			line, tallest = 0, 0
		}
		if line > 0 {
			line += gapX
		}
		line += b.w
		w, tallest = max(w, line), max(tallest, b.h)
	}
	return w, h + tallest
}

// place gives boxes that were measured their places: rows from y on, in the middle of
// the w pixels from x on.
func place(boxes []*box, x, y, w float64) {
	for len(boxes) > 0 {
		n, line, tallest := 0, 0.0, 0.0
		for _, b := range boxes {
			if n > 0 && line+gapX+b.w > rowW {
				break
			}
			if n > 0 {
				line += gapX
			}
			line += b.w
			tallest = max(tallest, b.h)
			n++
		}
		left := x + (w-line)/2
		for _, b := range boxes[:n] {
			b.x, b.y = left, y
			left += b.w + gapX
		}
		y += tallest + gapX
		boxes = boxes[n:]
	}
}

// place gives each box its place and returns the size of the picture.
func (g *drawing) place() (w, h float64) {
	w, usersH := measure(g.users)
	wide := make([]float64, len(g.levels))    // of each level
	serves := make([]float64, len(g.levels))  // height of what its layers serve
	members := make([]float64, len(g.levels)) // height of their members
	aside := make([]float64, len(g.levels))   // width of the users beside its layers
	heights := make([]float64, len(g.levels)) // height of these
	beneath := make([]float64, len(g.levels)) // height of the edges below these
	for i, level := range g.levels {
		for j, f := range level.frames {
			w1, h1 := measure(f.serves)
			w2, h2 := measure(f.members)
			f.w = 2*frameX + max(w1, w2, charW*1.1*float64(width(f.title())))
			serves[i], members[i] = max(serves[i], h1), max(members[i], h2)
			if f.joined {
				beneath[i] = arcH
			}
			if j > 0 {
				wide[i] += gapX
			}
			wide[i] += f.w
		}
		if len(level.users) > 0 {
			aside[i], heights[i] = measure(level.users)
			wide[i] += gapX + aside[i]
		}
		w = max(w, wide[i])
	}
	w = max(w, charW*1.1*float64(width(g.title)), legendW())
	y := margin + headH
	if len(g.users) > 0 {
		place(g.users, margin, y, w)
		y += usersH + gapY
	}
	for i, level := range g.levels {
		x := margin + (w-wide[i])/2
		inner := y + frameY + lineH
		low := inner
		if serves[i] > 0 {
			low += serves[i] + gapY
		}
		bottom := max(low+members[i]+beneath[i]+frameY, y+heights[i])
		for _, f := range level.frames {
			f.x, f.y, f.h = x, y, bottom-y
			place(f.serves, x, inner, f.w)
			place(f.members, x, low, f.w)
			x += f.w + gapX
		}
		place(level.users, x, bottom-heights[i], aside[i])
		y = bottom + gapY
	}
	return w + 2*margin, y - gapY + margin + legendH
}

// svg writes g as a picture that needs no other file.
func (g *drawing) svg(s *screen) {
	w, h := g.place()
	fmt.Fprintf(s, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\">\n", w, h, w, h)
	fmt.Fprintf(s, "<title>%s</title>\n<style>%s</style>\n", html.EscapeString(g.title), svgStyle)
	fmt.Fprint(s, "<defs><marker id=\"arrow\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto-start-reverse\"><path d=\"M0 1 L9 5 L0 9\"/></marker></defs>\n")
	fmt.Fprintf(s, "<rect x=\"0\" y=\"0\" width=\"%.0f\" height=\"%.0f\" style=\"fill:#fff;stroke:none\"/>\n", w, h)
	fmt.Fprintf(s, "<text class=\"title\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", margin, margin, html.EscapeString(g.title))
	for _, f := range g.frames() {
		fmt.Fprintf(s, "<rect class=\"frame\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"8\"/>\n", f.x, f.y, f.w, f.h)
		fmt.Fprintf(s, "<text class=\"frame\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", f.x+frameX, f.y+lineH+2, html.EscapeString(f.title()))
	}
	curves := g.curves()
	for i, c := range curves {
		e, arrow := g.edges[i], ""
		switch e.kind {
		case "server", "bound", "auto": // the flow, the name leads to it
			arrow = ` marker-start="url(#arrow)"`
		}
		fmt.Fprintf(s, "<path class=\"%s\" d=\"M%.1f %.1f C%.1f %.1f %.1f %.1f %.1f %.1f\"%s/>\n", e.kind, c.x1, c.y1, c.x1, c.y1+c.bend1, c.x2, c.y2+c.bend2, c.x2, c.y2, arrow)
	}
	g.all(func(b *box) { b.svg(s) })
	// The labels come last, so that nothing crosses them out.
	for i, c := range curves {
		x, y := c.at(labelAt[g.edges[i].kind])
		fmt.Fprintf(s, "<text class=\"edge\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", x, y+3, html.EscapeString(g.edges[i].text))
	}
	legendSVG(s, h-margin)
	fmt.Fprint(s, "</svg>\n")
}

// frames returns all layers.
func (g *drawing) frames() (all []*frame) {
	for _, l := range g.levels {
		all = append(all, l.frames...)
	}
	return all
}

// all calls f for each box.
func (g *drawing) all(f func(*box)) {
	each := func(boxes []*box) {
		for _, b := range boxes {
			f(b)
		}
	}
	each(g.users)
	for _, l := range g.levels {
		each(l.users)
		for _, f := range l.frames {
			each(f.serves)
			each(f.members)
		}
	}
}

// curve is the way of an edge: it leaves (x1, y1) and reaches (x2, y2) upright. The
// bends are how far below its end each control point is.
type curve struct{ x1, y1, bend1, x2, y2, bend2 float64 }

// at returns the point at the part t of c: 0 is its beginning, 1 its end.
func (c curve) at(t float64) (x, y float64) {
	u := 1 - t
	first, second, third, last := u*u*u, 3*u*u*t, 3*u*t*t, t*t*t
	return c.x1*(first+second) + c.x2*(third+last),
		c.y1*(first+second) + c.bend1*second + c.y2*(third+last) + c.bend2*third
}

// labelAt is where an edge's label is, by its kind: away from where edges meet.
var labelAt = map[string]float64{"client": 0.7, "server": 0.7, "bound": 0.7, "auto": 0.7, "known": 0.3, "carried": 0.3, "joined": 0.5}

// curves returns the ways of all edges. Those that meet a side of a box are spread
// evenly over it, in the order of their other ends.
func (g *drawing) curves() []curve {
	type side struct {
		of    *box
		below bool
	}
	type end struct {
		edge  int
		there float64 // the middle of the box at the other end
		at    *float64
	}
	all := make([]curve, len(g.edges))
	sides := make(map[side][]end)
	meet := func(i int, of, other *box, below bool, at *float64) {
		sides[side{of, below}] = append(sides[side{of, below}], end{i, other.x + other.w/2, at})
	}
	for i, e := range g.edges {
		c := &all[i]
		joined := e.kind == "joined"
		meet(i, e.from, e.to, true, &c.x1)
		meet(i, e.to, e.from, joined, &c.x2)
		c.y1, c.y2 = e.from.y+e.from.h, e.to.y
		c.bend1, c.bend2 = gapY/2, -gapY/2
		if joined {
			c.y2 += e.to.h
			c.bend1, c.bend2 = arcH, arcH
		}
	}
	for s, ends := range sides {
		slices.SortStableFunc(ends, func(a, b end) int { return cmp.Compare(a.there, b.there) })
		for i, e := range ends {
			*e.at = s.of.x + s.of.w*float64(i+1)/float64(len(ends)+1)
		}
	}
	return all
}

// legend says what the colours of boxes mean, by their class.
var legend = []struct{ class, text string }{
	{"flow", "flow"}, {"process", "process"}, {"program", "program"}, {"name", "name"}, {"layer", "IPCP in a layer"}, {"elsewhere", "member elsewhere"}, {"process bad", "something is missing"},
}

// The measures of the legend: of a sample, and between it and the texts beside it.
const (
	sampleW   = 22.0
	legendGap = 8.0
)

func legendW() (w float64) {
	for _, l := range legend {
		w += sampleW + 3*legendGap + charW*float64(len(l.text))
	}
	return w
}

// legendSVG writes the legend, whose texts stand at the height y.
func legendSVG(s *screen, y float64) {
	x := margin
	for _, l := range legend {
		fmt.Fprintf(s, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"12\" rx=\"3\"/>\n", l.class, x, y-10, sampleW)
		x += sampleW + legendGap
		fmt.Fprintf(s, "<text class=\"legend\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", x, y, l.text)
		x += 2*legendGap + charW*float64(len(l.text))
	}
}

func (b *box) svg(s *screen) {
	class, radius := b.kind, 3
	if b.kind == "flow" || b.kind == "name" {
		radius = 12
	}
	if b.bad {
		class += " bad"
	}
	fmt.Fprintf(s, "<g><title>%s</title><rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"%d\"/>\n",
		html.EscapeString(strings.Join(b.lines, "\n")), class, b.x, b.y, b.w, b.h, radius)
	for i, l := range b.lines {
		style := ""
		if i == 0 {
			style = " class=\"what\""
		}
		fmt.Fprintf(s, "<text%s x=\"%.1f\" y=\"%.1f\">%s</text>\n", style, b.x+padX, b.y+padY+lineH*float64(i)+12, html.EscapeString(cut(l, maxText)))
	}
	fmt.Fprint(s, "</g>\n")
}
