package operf

import (
	"fmt"
	"strconv"
	"time"

	"o7s/applets/internal/measure"
)

// output is where an operf tells people, or programs, what it sees.
type output struct {
	lines, errs  *measure.Lines
	status       *measure.Status
	json, stream bool
}

// people writes a line for people; programs do not get it.
func (o *output) people(format string, args ...any) {
	if !o.json && !o.stream {
		o.lines.Printf(format, args...)
	}
}

// event writes one line of a stream of JSON.
func (o *output) event(event string, data any) {
	if o.stream {
		o.lines.JSON(struct {
			Event string `json:"event"`
			Data  any    `json:"data"`
		}{event, data}, false)
	}
}

// missing returns what tells of n lines that were not written, as JSON where
// all lines are; nil for the words of other tools.
func (o *output) missing() func(n uint64) []byte {
	if !o.json && !o.stream {
		return nil
	}
	return func(n uint64) []byte {
		return fmt.Appendf(nil, `{"event":"missing","data":{"lines":%d}}`+"\n", n)
	}
}

// about is what a test is, at its start.
type about struct {
	Tool      string  `json:"tool"`
	Role      string  `json:"role"` // client or server
	Time      string  `json:"time"` // RFC 3339
	Name      string  `json:"name,omitempty"`
	Type      string  `json:"type"`      // uni or bi
	Direction string  `json:"direction"` // forward: the client sends; or reverse
	Form      string  `json:"form"`      // own, or base where the peer knows no other
	Size      int     `json:"size_bytes"`
	Rate      float64 `json:"rate_bits_per_second"` // in each flow; 0: as fast as can be, or not known
	Duration  float64 `json:"duration_seconds"`     // 0: not known
	Streams   []int   `json:"streams"`              // the flow descriptors
}

func newAbout(role, name string, streams []*stream) about {
	p := streams[0].plan
	a := about{
		Tool: "operf", Role: role, Time: time.Now().UTC().Format(time.RFC3339), Name: name, Type: "uni", Direction: "forward",
		Form: "own", Size: p.Size, Rate: p.Rate, Duration: p.Duration.Seconds(),
	}
	if p.both {
		a.Type = "bi"
	}
	if p.Reverse {
		a.Direction = "reverse"
	}
	if p.base {
		a.Form = "base"
	}
	for _, s := range streams {
		a.Streams = append(a.Streams, s.fd)
	}
	return a
}

// rates is what passed in a time.
type rates struct {
	Stream  string  `json:"stream"` // a flow descriptor, or sum
	Start   float64 `json:"start_seconds"`
	End     float64 `json:"end_seconds"`
	Packets uint64  `json:"packets"`
	Bytes   uint64  `json:"bytes"`
	PPS     float64 `json:"packets_per_second"`
	BPS     float64 `json:"bits_per_second"`
	Lost    int64   `json:"lost"` // below 0: late ones came that were lost before
	Late    uint64  `json:"late"`
}

func (r *rates) divide() {
	if d := r.End - r.Start; d > 0 {
		r.PPS, r.BPS = float64(r.Packets)/d, 8*float64(r.Bytes)/d
	}
}

// line returns r for people. A sender knows of no loss.
func (r *rates) line(receives bool, more string) string {
	loss := "       -       -"
	if receives {
		loss = fmt.Sprintf("%8d%8d", r.Lost, r.Late)
	}
	return fmt.Sprintf("[%4s] %6.2f-%-6.2f  %10s %12s %12s %11d%s%s\n",
		r.Stream, r.Start, r.End, measure.SI(float64(r.Bytes), "B"), measure.SI(r.BPS, "b/s"), measure.SI(r.PPS, "p/s"), r.Packets, loss, more)
}

const columns = "[flow]  time in s       transfer         rate  packet rate     packets    lost    late\n"

// interval is one interval of all streams.
type interval struct {
	Streams []rates `json:"streams"`
	Sum     rates   `json:"sum"`
}

// oneEnd is one end's figures of the whole test.
type oneEnd struct {
	rates
	CPU      float64 `json:"cpu_percent"`
	Repeated uint64  `json:"repeated"`
	LossPart float64 `json:"lost_percent"`
}

// whole is what a test was, at its end.
type whole struct {
	Stream   string  `json:"stream"`
	Sender   *oneEnd `json:"sender"` // null: not known
	Receiver *oneEnd `json:"receiver"`
	Echo     *oneEnd `json:"echo"` // what came back to the sender, of type bi
}

func newEnd(stream string, f *figures) *oneEnd {
	if f == nil {
		return nil
	}
	e := &oneEnd{rates: rates{Stream: stream, End: f.Seconds, Packets: f.Packets, Bytes: f.Bytes, Lost: int64(f.Lost), Late: f.Late}}
	e.CPU, e.Repeated = f.CPU, f.Repeated
	e.LossPart = measure.Loss(f.Packets+f.Lost, f.Packets)
	e.divide()
	return e
}

func (e *oneEnd) line(receives bool, what string) string {
	if receives {
		what = fmt.Sprintf("%s, %s%% lost", what, measure.Percent(e.LossPart))
	}
	return e.rates.line(receives, fmt.Sprintf("  %s, CPU %.0f%%", what, e.CPU))
}

// figuresOf returns the figures of all ends as whole says them.
func (s *stream) whole(sends bool) whole {
	w := whole{Stream: strconv.Itoa(s.fd)}
	mine, theirs := newEnd(w.Stream, s.mine), newEnd(w.Stream, s.theirs)
	w.Echo = newEnd(w.Stream, s.echoed)
	if w.Sender, w.Receiver = mine, theirs; !sends {
		w.Sender, w.Receiver = theirs, mine
	}
	return w
}

// add adds figures of one more stream to a sum. All streams of a process share
// its processor time.
func (f *figures) add(g *figures) *figures {
	if g == nil {
		return f
	}
	if f == nil {
		f = &figures{}
	}
	f.Packets += g.Packets
	f.Bytes += g.Bytes
	f.Seconds = max(f.Seconds, g.Seconds)
	f.CPU = max(f.CPU, g.CPU)
	f.Lost += g.Lost
	f.Late += g.Late
	f.Repeated += g.Repeated
	return f
}

// end tells the result of a test of streams, and what went wrong with it.
func (o *output) end(a about, intervals []interval, streams []*stream, sends bool, failure error) {
	result := struct {
		Streams []whole        `json:"streams"`
		Sum     whole          `json:"sum"`
		Order   *measure.Order `json:"order,omitempty"`
		Error   string         `json:"error,omitempty"`
	}{Streams: []whole{}}
	sum := &stream{}
	var flows []measure.Flow
	for _, s := range streams {
		flows = append(flows, s.flow)
		result.Streams = append(result.Streams, s.whole(sends))
		sum.mine, sum.theirs, sum.echoed = sum.mine.add(s.mine), sum.theirs.add(s.theirs), sum.echoed.add(s.echoed)
	}
	result.Sum = sum.whole(sends)
	result.Sum.rename("sum")
	result.Order = measure.OrderOf(flows...)
	if failure != nil {
		result.Error = failure.Error()
	}
	switch {
	case o.stream:
		o.event("end", result)
	case o.json:
		if intervals == nil {
			intervals = []interval{}
		}
		o.lines.JSON(struct {
			Start     about      `json:"start"`
			Intervals []interval `json:"intervals"`
			End       any        `json:"end"`
		}{a, intervals, result}, true)
	default:
		text := "- - - - - - - - - - - - - - - - - - - - - - - - -\n" + columns
		for _, w := range result.Streams {
			text += w.text()
		}
		if len(streams) > 1 {
			text += result.Sum.text()
		}
		o.lines.Printf("%s%s", text, result.Order.Line())
	}
}

func (w *whole) rename(stream string) {
	w.Stream = stream
	for _, e := range []*oneEnd{w.Sender, w.Receiver, w.Echo} {
		if e != nil {
			e.Stream = stream
		}
	}
}

func (w *whole) text() (text string) {
	if w.Sender != nil {
		text += w.Sender.line(false, "sender")
	}
	if w.Receiver != nil {
		text += w.Receiver.line(true, "receiver")
	}
	if w.Echo != nil {
		text += w.Echo.line(true, "echo")
	}
	return text
}
