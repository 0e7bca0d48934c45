package measure

import (
	"fmt"
	"math/bits"
	"strings"
	"time"
)

// subBuckets is how many parts each power of two of ns has: what a Histogram
// returns is right to 1/32.
const subBuckets = 32

// Histogram counts times by their size, in fixed memory. The zero value is
// ready. A time below 0 counts as 0.
type Histogram struct {
	n      uint64
	counts [(64 - 5) * subBuckets]uint64
}

// bucket returns the index for d; floor its inverse.
func bucket(d time.Duration) int {
	v := uint64(max(0, d))
	if v < subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - 6 // v>>shift has 6 bits: 32 to 63
	return (shift+1)*subBuckets + int(v>>shift) - subBuckets
}

func floor(i int) time.Duration {
	if i < subBuckets {
		return time.Duration(i)
	}
	return time.Duration(i%subBuckets+subBuckets) << (i/subBuckets - 1)
}

// Add counts d.
func (h *Histogram) Add(d time.Duration) {
	h.counts[bucket(d)]++
	h.n++
}

// Percentile returns the time that p percent of the times do not exceed, p
// from 0 to 100; of none it is 0.
func (h *Histogram) Percentile(p float64) time.Duration {
	// As many as p percent, and at least one: the nearest rank.
	rank := uint64(p / 100 * float64(h.n))
	if float64(rank) < p/100*float64(h.n) || rank == 0 {
		rank++
	}
	var sum uint64
	for i, c := range h.counts {
		if sum += c; c > 0 && sum >= rank {
			return (floor(i) + floor(i+1)) / 2
		}
	}
	return 0
}

// Row is one row of a histogram for people: how many times were at least From
// and below To.
type Row struct {
	From, To time.Duration
	Count    uint64
}

// steps are the bounds of rows in each power of ten.
var steps = []time.Duration{10, 15, 20, 30, 50, 70}

// Rows returns the rows from the first to the last that is not empty. Their
// bounds are 1, 1.5, 2, 3, 5, 7, 10 and so on; which side of a bound a time
// falls is right to 1/32.
func (h *Histogram) Rows() []Row {
	var rows []Row
	i, last := 0, 0 // last: of rows, the last that is not empty
	from := time.Duration(0)
	for unit := time.Duration(1); i < len(h.counts)-1; unit *= 10 {
		for _, s := range steps {
			r := Row{From: from, To: s * unit}
			for i < len(h.counts)-1 && floor(i) < r.To {
				r.Count += h.counts[i]
				i++
			}
			from = r.To
			if r.Count == 0 && len(rows) == 0 {
				continue
			}
			if rows = append(rows, r); r.Count > 0 {
				last = len(rows)
			}
		}
		if unit > time.Hour {
			break
		}
	}
	return rows[:last]
}

// barWidth is how many columns the longest bar has.
const barWidth = 40

// Text returns the rows as lines with bars.
func (h *Histogram) Text() string {
	rows := h.Rows()
	var most uint64
	for _, r := range rows {
		most = max(most, r.Count)
	}
	var b strings.Builder
	for _, r := range rows {
		bar := int(r.Count * barWidth / most)
		if bar == 0 && r.Count > 0 {
			bar = 1
		}
		fmt.Fprintf(&b, "%9.4f -%9.4f ms %10d %5.1f%% |%s\n", MS(float64(r.From)), MS(float64(r.To)), r.Count,
			100*float64(r.Count)/float64(h.n), strings.Repeat("#", bar))
	}
	return b.String()
}
