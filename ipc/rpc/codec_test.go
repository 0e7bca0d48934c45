package rpc

import (
	"bytes"
	"errors"
	"math"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"o7s/core"
)

type inner struct {
	Name string
	N    uint16
}

// sink has a field of every kind that a message may have.
type sink struct {
	Bool    bool
	I8      int8
	I64     int64
	U8      uint8
	U32     core.FlowID
	U64     uint64
	Str     string
	Hash    core.Hash
	Bytes   []byte
	Strs    []string
	Inners  []inner
	Ints    []int32
	Nested  [][]uint16
	Ptr     *inner
	Num     *core.FlowID
	D       time.Duration
	QoS     core.QoS
	ignored int
	Skipped any `msgpack:"-"`
}

func fullSink() *sink {
	return &sink{
		Bool: true, I8: -128, I64: math.MinInt64, U8: 255, U32: 7, U64: math.MaxUint64,
		Str: strings.Repeat("s", 300), Hash: "\xff\x00", Bytes: make([]byte, 300),
		Strs: []string{"", "a"}, Inners: []inner{{"x", 65535}, {}}, Ints: make([]int32, 70),
		Nested: [][]uint16{nil, {1}, {}}, Ptr: &inner{"p", 1}, Num: new(core.FlowID), D: time.Hour, QoS: core.QoSVideo,
	}
}

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	f := newFrame(kindReply)
	n := len(f.b)
	if err := f.body(v); err != nil {
		t.Fatal(err)
	}
	return append([]byte(nil), f.b[n:]...)
}

func TestEveryKindOfFieldSurvives(t *testing.T) {
	for _, want := range []*sink{fullSink(), {}} {
		var got sink
		want.ignored, want.Skipped = 1, "x" // not sent
		if err := decode(encoded(t, want), &got); err != nil {
			t.Fatal(err)
		}
		want.ignored, want.Skipped = 0, nil
		if !reflect.DeepEqual(&got, want) {
			t.Errorf("got  %+v\nwant %+v", &got, want)
		}
	}
}

func TestSizeIsWhatAMessageTakes(t *testing.T) {
	for _, v := range []any{fullSink(), &inner{"x", 3}, new(sink), &inner{strings.Repeat("x", 300), 300}} {
		with, err := encode(kindReply, 1, "", v, 0)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(with.b) - len(newFrame(kindReply).b) - 2; Size(v) != n { // 2: the id and the count of files
			t.Errorf("%T: %d bytes, want %d", v, Size(v), n)
		}
	}
	for _, v := range []any{&inner{Name: strings.Repeat("x", MaxMessage)}, &sink{Bytes: make([]byte, MaxMessage)}} {
		if Size(v) <= MaxMessage {
			t.Errorf("%T: %d bytes, and no message holds it", v, Size(v))
		}
	}
}

func TestTypesThatNoMessageMayHave(t *testing.T) {
	type valueReceiver struct{ V badUnmarshaler }
	tests := map[string]reflect.Type{
		"an interface":         reflect.TypeFor[struct{ V any }](),
		"an error":             reflect.TypeFor[struct{ V error }](),
		"a channel":            reflect.TypeFor[struct{ V chan int }](),
		"a function":           reflect.TypeFor[struct{ V func() }](),
		"time.Time":            reflect.TypeFor[struct{ V time.Time }](),
		"time.Time in a slice": reflect.TypeFor[struct{ V []time.Time }](),
		"*time.Time":           reflect.TypeFor[struct{ V *time.Time }](),
		"an embedded field":    reflect.TypeFor[struct{ inner }](),
		"an embedded pointer":  reflect.TypeFor[struct{ *sink }](),
		"an option": reflect.TypeFor[struct {
			V string `msgpack:",intern"`
		}](),
		"a map":                  reflect.TypeFor[struct{ V map[string]int }](),
		"an array":               reflect.TypeFor[struct{ V [4]byte }](),
		"a pointer to an array":  reflect.TypeFor[struct{ V *[4]byte }](),
		"a float":                reflect.TypeFor[struct{ V float64 }](),
		"complex":                reflect.TypeFor[struct{ V complex128 }](),
		"a decoder by value":     reflect.TypeFor[valueReceiver](),
		"a decoder by pointer":   reflect.TypeFor[struct{ V netip.Addr }](),
		"a decoder of msgpack's": reflect.TypeFor[struct{ V custom }](),
		"a pointer to itself":    reflect.TypeFor[list](),
		"a slice of itself":      reflect.TypeFor[recursive](),
		"itself, further in":     reflect.TypeFor[struct{ V []struct{ W []recursive } }](),
	}
	for name, typ := range tests {
		if _, err := shapeOf(typ); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	defer func() {
		if r := recover(); r == nil || !strings.Contains(r.(string), "time.Time") {
			t.Errorf("Handle: %v", r)
		}
	}()
	Handle(NewMux(), Method[struct{ T time.Time }, Empty]{Name: "x"}, nil)
}

type recursive struct{ V []recursive }

type list struct{ Next *list }

type custom struct{}

func (*custom) DecodeMsgpack(*msgpack.Decoder) error { return nil }

type badUnmarshaler struct{}

func (badUnmarshaler) UnmarshalText([]byte) error { return nil }

func TestMuxRefusesWhatCannotWork(t *testing.T) {
	panics := func(name string, f func()) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("%s: no panic", name)
			}
		}()
		f()
	}
	h := func(*Call[Empty], *Empty) {}
	m := NewMux()
	Handle(m, hang, h)
	panics("a second handler", func() { Handle(m, hang, h) })
	panics("no name", func() { Handle(m, Method[Empty, Empty]{}, h) })
	panics("a long name", func() { Handle(m, Method[Empty, Empty]{Name: strings.Repeat("n", 256)}, h) })
	links(t, Config{Mux: m}, Config{})
	panics("a Mux in use", func() { Handle(m, open, h) })
}

// tests of values that the msgpack package alone would accept, cut or die of.
func TestBytesThatDoNotFitTheirType(t *testing.T) {
	huge := []byte{0xff, 0xff, 0xff, 0xff}
	tests := []struct {
		name string
		err  error
	}{
		{"uint8 300", decode([]byte{0x91, 0xcd, 1, 0x2c}, new(struct{ V uint8 }))},
		{"uint8 -1", decode([]byte{0x91, 0xff}, new(struct{ V uint8 }))},
		{"uint64 of a negative int64", decode(append([]byte{0x91, 0xd3}, huge[0], 0, 0, 0, 0, 0, 0, 0), new(struct{ V uint64 }))},
		{"int8 128", decode([]byte{0x91, 0xcc, 128}, new(struct{ V int8 }))},
		{"int8 -129", decode([]byte{0x91, 0xd1, 0xff, 0x7f}, new(struct{ V int8 }))},
		{"int64 2^63", decode([]byte{0x91, 0xcf, 0x80, 0, 0, 0, 0, 0, 0, 0}, new(struct{ V int64 }))},
		{"nil for a bool", decode([]byte{0x91, 0xc0}, new(struct{ V bool }))},
		{"nil for a string", decode([]byte{0x91, 0xc0}, new(struct{ V string }))},
		{"nil for a struct", decode([]byte{0x91, 0xc0}, new(struct{ V inner }))},
		{"bytes for a string", decode([]byte{0x91, 0xc4, 1, 'x'}, new(struct{ V string }))},
		{"a string for bytes", decode([]byte{0x91, 0xa1, 'x'}, new(struct{ V []byte }))},
		{"a float for an integer", decode([]byte{0x91, 0xca, 0, 0, 0, 0}, new(struct{ V int }))},
		{"an extension", decode([]byte{0x91, 0xd4, 1, 1}, new(struct{ V []byte }))},
		{"a huge map for a slice", decode(append([]byte{0x91, 0xdf}, huge...), new(struct{ V []string }))},
		{"nothing", decode(nil, new(inner))},
		{"the code that is never used", decode([]byte{0x91, 0xc1}, new(struct{ V int }))},
		{"a struct as a map", decode([]byte{0x91, 0x81, 0xa1, 'N', 1}, new(struct{ V inner }))},
		{"an empty struct of two", decode([]byte{0x91, 0x90}, new(struct{ V inner }))},
		{"bytes for a pointer to an integer", decode([]byte{0x91, 0xc4, 1, 'x'}, new(struct{ V *int }))},
		{"nothing for a pointer", decode([]byte{0x91}, new(struct{ V *int }))},
		{"huge bytes", decode(append([]byte{0x91, 0xc6}, huge...), new(struct{ V []byte }))},
		{"a huge string", decode(append([]byte{0x91, 0xdb}, huge...), new(struct{ V string }))},
		{"a huge slice", decode(append([]byte{0x91, 0xdd}, huge...), new(struct{ V []inner }))},
		{"many huge slices", decode(append(bytes.Repeat([]byte{0x91}, 20), append([]byte{0xdd}, huge...)...), new(struct{ V [][][]int }))},
		{"a huge slice of strings", decode(append([]byte{0x91, 0xdd}, huge...), new(struct{ V []string }))},
	}
	for _, tt := range tests {
		if !errors.Is(tt.err, core.ErrMessage) {
			t.Errorf("%s: %v", tt.name, tt.err)
		}
	}
}

func TestHostileLengthsAllocateLittle(t *testing.T) {
	type message struct {
		B  []byte
		S  string
		I  []inner
		SS []string
	}
	bodies := [][]byte{
		{0x94, 0xc6, 0xff, 0xff, 0xff, 0xff},
		{0x94, 0xc0, 0xdb, 0x7f, 0xff, 0xff, 0xff},
		{0x94, 0xc0, 0xa0, 0xdd, 0x7f, 0xff, 0xff, 0xff},
		{0x94, 0xc0, 0xa0, 0xc0, 0xdd, 0x7f, 0xff, 0xff, 0xff},
		// As many elements as there are bytes is the most that can be claimed.
		append([]byte{0x94, 0xc0, 0xa0, 0xdc, 0xff, 0x00}, make([]byte, 0xff00)...),
		append([]byte{0x94, 0xc0, 0xa0, 0xc0, 0xdc, 0xff, 0x00}, bytes.Repeat([]byte{0xa0}, 0xff00)...),
	}
	var before, after runtime.MemStats
	for i, body := range bodies {
		decode(body, new(message)) // the type's shape, once
		runtime.ReadMemStats(&before)
		decode(body, new(message))
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 100*MaxMessage {
			t.Errorf("body %d: %d bytes allocated", i, n)
		}
	}
}

func TestDecodingLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 10 {
		var s sink
		if err := decode(encoded(t, fullSink()), &s); err != nil {
			t.Fatal(err)
		}
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, there were %d", n, before)
	}
}

func TestDecodedMessageKeepsNothingOfThePacket(t *testing.T) {
	body := encoded(t, fullSink())
	var s sink
	if err := decode(body, &s); err != nil {
		t.Fatal(err)
	}
	for i := range body {
		body[i] = 0xff
	}
	if want := fullSink(); !reflect.DeepEqual(&s, want) {
		t.Errorf("changed with the packet: %+v", s)
	}
}

// flatSink has a field of every kind of a flat message.
type flatSink struct {
	Bool    bool
	I8      int8
	I16     int16
	I64     int64
	U8      uint8
	U32     core.FlowID
	U64     uint64
	Str     string
	hidden  int
	Hash    core.Hash
	QoS     core.QoS
	Skipped string `msgpack:"-"`
	Empty   Empty
	D       time.Duration
}

// Flat messages have the bytes that the msgpack package gives them, and that
// understands.
func TestFlatMessagesAreTheLibrarys(t *testing.T) {
	var all []flatSink
	for _, i := range []int64{0, 1, -1, -32, -33, 127, 128, -128, -129, 255, 256, math.MinInt16, math.MinInt16 - 1, math.MaxInt16 + 1,
		math.MaxUint16 + 1, math.MinInt32, math.MinInt32 - 1, math.MaxUint32, math.MaxUint32 + 1, math.MinInt64, math.MaxInt64} {
		all = append(all, flatSink{I8: int8(i), I16: int16(i), I64: i, U8: uint8(i), U32: core.FlowID(i), U64: uint64(i), D: time.Duration(i), hidden: 1, Skipped: "x"})
	}
	for _, n := range []int{0, 31, 32, 255, 256, 60000} {
		all = append(all, flatSink{Bool: n > 31, Str: strings.Repeat("s", n), Hash: core.Hash(strings.Repeat("\xff", min(n, 255))), QoS: core.QoSVideo})
	}
	if s, err := shapeOf(reflect.TypeFor[flatSink]()); err != nil || !s.flat {
		t.Fatalf("not flat, %v", err)
	}
	for _, want := range all {
		b := encoded(t, &want)
		f := newFrame(kindReply)
		n := len(f.b)
		if err := f.enc.Encode(&want); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, f.b[n:]) {
			t.Errorf("%+v:\ngot  %x\nwant %x", want, b, f.b[n:])
		}
		want.hidden, want.Skipped = 0, ""
		var mine, theirs flatSink
		if err := decode(b, &mine); err != nil || mine != want {
			t.Errorf("got %+v, %v\nwant %+v", mine, err, want)
		}
		if err := msgpack.Unmarshal(b, &theirs); err != nil || theirs != want {
			t.Errorf("the package got %+v, %v\nwant %+v", theirs, err, want)
		}
	}
	for _, n := range []int{MaxMessage, 1 << 20} { // with the header too large, and before that
		f := newFrame(kindReply)
		if err := f.body(&flatSink{Str: strings.Repeat("s", n)}); err != errTooLarge {
			t.Errorf("a string of %d bytes: %v", n, err)
		}
	}
}

func TestWhatIsFlat(t *testing.T) {
	for _, v := range []any{Empty{}, addReq{}, flatSink{}} {
		if s, err := shapeOf(reflect.TypeOf(v)); err != nil || !s.flat {
			t.Errorf("%T is not flat, %v", v, err)
		}
	}
	for _, v := range []any{sink{}, struct{ B []byte }{}, struct{ S []int }{}, struct{ P *int }{}} {
		if s, err := shapeOf(reflect.TypeOf(v)); err != nil || s.flat {
			t.Errorf("%T is flat, %v", v, err)
		}
	}
}

// A flat message allocates its strings, and is written without any memory.
func TestFlatMessagesAllocateNothing(t *testing.T) {
	v := &flatSink{I64: -5, U64: 1 << 40}
	b := encoded(t, v)
	f := newFrame(kindReply)
	if n := testing.AllocsPerRun(100, func() { f.b = f.b[:0]; f.body(v) }); n > 0 {
		t.Errorf("%v allocations to encode", n)
	}
	var got flatSink
	if n := testing.AllocsPerRun(100, func() { decode(b, &got) }); n > 0 {
		t.Errorf("%v allocations to decode", n)
	}
}
