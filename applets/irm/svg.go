package irm

import (
	"fmt"
	"html"
	"strings"
)

// The measures of a picture, in pixels. The font has characters of one width.
const (
	charW   = 7.4 // somewhat more than a character of the font takes
	lineH   = 17.0
	padX    = 12.0
	padY    = 9.0
	gapX    = 110.0 // between columns: the edges are there
	gapY    = 18.0
	margin  = 28.0
	headH   = 62.0 // for the title and the columns' titles
	legendH = 34.0 // for the legend, at the bottom
	maxText = 44   // columns of text in a box; more is cut off and shown as a tip
)

const svgStyle = `
  text { font: 12px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1d2733; }
  .title { font-size: 13px; fill: #5b6775; }
  .column { font-weight: 700; fill: #5b6775; }
  .what { font-weight: 700; }
  .edge { font-size: 10px; fill: #5b6775; text-anchor: middle; paint-order: stroke; stroke: #fff; stroke-width: 3px; }
  .legend { font-size: 11px; fill: #5b6775; }
  rect { stroke-width: 1.5; fill: #fff; stroke: #8793a1; }
  .flow { fill: #e9f3ff; stroke: #3b7dc4; }
  .process { fill: #f6f7f9; }
  .program { fill: #fff; stroke-dasharray: 5 3; }
  .name { fill: #eaf7ee; stroke: #35915a; }
  .layer { fill: #fdf3e3; stroke: #bd8323; }
  .bad { stroke: #c8402f; }
  path { fill: none; stroke: #8793a1; stroke-width: 1.5; }
  path.client, path.server { stroke: #3b7dc4; }
  path.bound, path.auto { stroke: #35915a; }
  path.auto { stroke-dasharray: 5 3; }
  path.known { stroke: #bd8323; }
`

// place gives each box its place and returns the size of the picture.
func (g *drawing) place() (w, h float64) {
	x, tallest := margin, 0.0
	var heights [4]float64
	var lefts, widths [4]float64
	for i := range g.columns {
		c := &g.columns[i]
		widths[i] = float64(width(c.title)) * charW
		for _, b := range c.boxes {
			b.h = 2*padY + lineH*float64(len(b.lines))
			for _, l := range b.lines {
				widths[i] = max(widths[i], 2*padX+charW*float64(min(width(l), maxText)))
			}
			heights[i] += b.h + gapY
		}
		lefts[i] = x
		x += widths[i] + gapX
		tallest = max(tallest, heights[i])
	}
	for i := range g.columns {
		y := headH + margin + (tallest-heights[i])/2
		for _, b := range g.columns[i].boxes {
			b.x, b.y, b.w = lefts[i], y, widths[i]
			y += b.h + gapY
		}
	}
	w = max(x-gapX+margin, 2*margin+charW*1.1*float64(width(g.title)), 2*margin+legendW())
	return w, headH + margin + max(tallest, lineH) + margin + legendH
}

// svg writes g as a picture that needs no other file.
func (g *drawing) svg(s *screen) {
	w, h := g.place()
	fmt.Fprintf(s, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\">\n", w, h, w, h)
	fmt.Fprintf(s, "<title>%s</title>\n<style>%s</style>\n", html.EscapeString(g.title), svgStyle)
	fmt.Fprint(s, "<defs><marker id=\"arrow\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto-start-reverse\"><path d=\"M0 1 L9 5 L0 9\"/></marker></defs>\n")
	fmt.Fprintf(s, "<rect x=\"0\" y=\"0\" width=\"%.0f\" height=\"%.0f\" style=\"fill:#fff;stroke:none\"/>\n", w, h)
	fmt.Fprintf(s, "<text class=\"title\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", margin, margin, html.EscapeString(g.title))
	for i, left := 0, margin; i < len(g.columns); i++ {
		c := g.columns[i]
		wide := float64(width(c.title)) * charW
		if len(c.boxes) > 0 {
			wide = c.boxes[0].w
		}
		fmt.Fprintf(s, "<text class=\"column\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", left, headH+4, c.title)
		left += wide + gapX
	}
	for _, e := range g.edges {
		x1, y1, x2, y2 := g.ends(e)
		arrow := ""
		switch e.kind {
		case "server": // it serves the flow
			arrow = ` marker-end="url(#arrow)"`
		case "bound", "auto": // the name leads to it
			arrow = ` marker-start="url(#arrow)"`
		}
		fmt.Fprintf(s, "<path class=\"%s\" d=\"M%.1f %.1f C%.1f %.1f %.1f %.1f %.1f %.1f\"%s/>\n",
			e.kind, x1, y1, x1+gapX/2, y1, x2-gapX/2, y2, x2, y2, arrow)
	}
	// The labels come after the edges, so that none is crossed out.
	for _, e := range g.edges {
		x1, y1, x2, y2 := g.ends(e)
		fmt.Fprintf(s, "<text class=\"edge\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", (x1+x2)/2, (y1+y2)/2-4, edgeText[e.kind])
	}
	for _, c := range g.columns {
		for _, b := range c.boxes {
			b.svg(s)
		}
	}
	legendSVG(s, h-margin)
	fmt.Fprint(s, "</svg>\n")
}

// ends returns where e begins and where it ends.
func (g *drawing) ends(e edge) (x1, y1, x2, y2 float64) {
	x1, y1 = e.from.x+e.from.w, e.from.y+e.from.h*g.share(e, func(e edge) (*box, *box) { return e.from, e.to })
	x2, y2 = e.to.x, e.to.y+e.to.h*g.share(e, func(e edge) (*box, *box) { return e.to, e.from })
	return x1, y1, x2, y2
}

// legend says what the colours of boxes mean, by their class.
var legend = []struct{ class, text string }{
	{"flow", "flow"}, {"process", "process"}, {"program", "program"}, {"name", "name"}, {"layer", "IPCP in a layer"}, {"process bad", "something is missing"},
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

// share returns where e meets its box: from 0 at the top to 1 at the bottom. The
// edges at one side are spread evenly, in the order of their other ends. ends returns
// an edge's end at the box, and its other end.
func (g *drawing) share(e edge, ends func(edge) (*box, *box)) float64 {
	here, there := ends(e)
	all, above := 0, 0
	for _, o := range g.edges {
		if h, t := ends(o); h == here {
			all++
			if t.y <= there.y {
				above++
			}
		}
	}
	return float64(above) / float64(all+1)
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
