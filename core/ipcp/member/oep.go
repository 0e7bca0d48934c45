package member

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"o7s/core"
	"o7s/core/clock"
	"o7s/core/ipcp"
	"o7s/core/ipcp/internal/pb"
)

// ID names one enrollment.
type ID [8]byte

// String returns the first four bytes in hexadecimal, as logs show them.
func (id ID) String() string { return fmt.Sprintf("%x", id[:4]) }

// maxOEP bounds a message of an enrollment, in bytes.
const maxOEP = 1024

// ackTime is how long a newcomer may take to work with the configuration.
const ackTime = 10 * time.Second

// Config is a layer's configuration as one member tells it another.
type Config struct {
	Layer string
	Hash  uint32 // its number on the wire: see hash.FromWire
	Type  uint32 // Rank of the layer type
	// Parts is what belongs to the type, in the field that the type has; nil:
	// there is none.
	Parts []byte
}

// The fields of Config.Parts.
const fieldUnicast = 3

// Request is the newcomer's first message.
type Request struct{ ID ID }

// Response is the member's answer: Code is 0 and Config there, or it refuses.
type Response struct {
	ID     ID
	Time   time.Time // of the member's clock
	Code   int32
	Config *Config
}

// Ack is the newcomer's last message. Result is 0 where it is a member now.
type Ack struct {
	ID     ID
	Result int32
}

// Append appends r as it is on the wire.
func (r Request) Append(b []byte) []byte { return pb.Bytes(b, 1, r.ID[:]) }

// Append appends r as it is on the wire.
func (r Response) Append(b []byte) []byte {
	b = pb.Bytes(b, 1, r.ID[:])
	b = pb.Int(b, 2, r.Time.Unix())
	b = pb.Int(b, 3, int64(r.Time.Nanosecond()))
	b = pb.Int(b, 4, int64(r.Code))
	if c := r.Config; c != nil {
		layer := pb.Uint(pb.Bytes(nil, 1, c.Layer), 2, uint64(c.Hash))
		conf := pb.Uint(pb.Bytes(nil, 1, layer), 2, uint64(c.Type))
		if c.Parts != nil {
			conf = pb.Bytes(conf, fieldUnicast, c.Parts)
		}
		b = pb.Bytes(b, 5, conf)
	}
	return b
}

// Append appends a as it is on the wire.
func (a Ack) Append(b []byte) []byte { return pb.Int(pb.Bytes(b, 1, a.ID[:]), 2, int64(a.Result)) }

func open(b []byte) (*pb.Message, ID, error) {
	if len(b) > maxOEP {
		return nil, ID{}, fmt.Errorf("%w: a message of an enrollment has %d bytes, the bound is %d", core.ErrMessage, len(b), maxOEP)
	}
	m, err := pb.Parse(b)
	if err != nil {
		return nil, ID{}, err
	}
	id := m.Bytes(1)
	if len(id) != len(ID{}) {
		return nil, ID{}, fmt.Errorf("%w: the id of an enrollment has %d bytes, want %d", core.ErrMessage, len(id), len(ID{}))
	}
	return m, ID(id), m.Err()
}

// ParseRequest returns the Request that b holds.
func ParseRequest(b []byte) (Request, error) {
	_, id, err := open(b)
	return Request{id}, err
}

// ParseResponse returns the Response that b holds.
func ParseResponse(b []byte) (Response, error) {
	m, id, err := open(b)
	if err != nil {
		return Response{}, err
	}
	r := Response{ID: id, Time: time.Unix(int64(m.Uint(2)), int64(m.Int32(3))), Code: m.Int32(4)}
	if r.Code < 0 || m.Err() != nil {
		return r, m.Err()
	}
	conf := m.Message(5)
	layer := conf.Message(1)
	r.Config = &Config{Layer: string(layer.Bytes(1)), Hash: layer.Uint32(2), Type: conf.Uint32(2)}
	if conf.Has(fieldUnicast) {
		r.Config.Parts = bytes.Clone(conf.Bytes(fieldUnicast))
	}
	for _, m := range []*pb.Message{m, conf, layer} {
		if m.Err() != nil {
			return r, m.Err()
		}
	}
	return r, core.CheckName(r.Config.Layer)
}

// ParseAck returns the Ack that b holds.
func ParseAck(b []byte) (Ack, error) {
	m, id, err := open(b)
	if err != nil {
		return Ack{}, err
	}
	a := Ack{id, m.Int32(2)}
	return a, m.Err()
}

// Log is what an enrollment reports of its steps.
type Log interface {
	Debugf(format string, args ...any)
	Infof(format string, args ...any)
	Warnf(format string, args ...any)
}

// maxSkew is by how much clocks may differ before that is worth a line.
const maxSkew = 20 * time.Millisecond

// NewID returns a random ID.
func NewID() (id ID) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

// Ask is the newcomer's part: it asks on flow, whose component is Enrollment, for
// the layer's configuration, and returns it where check finds no fault. The member
// is told whether that is so.
func Ask(ctx context.Context, clk clock.Clock, log Log, flow ipcp.Lower, id ID, check func(Config) error) (Config, error) {
	if err := send(ctx, clk, flow, Request{id}.Append(nil)); err != nil {
		return Config{}, fmt.Errorf("ask for the configuration: %w", err)
	}
	b, err := receive(ctx, clk, flow, answerTime)
	if err != nil {
		return Config{}, fmt.Errorf("wait for the configuration: %w", err)
	}
	r, err := ParseResponse(b)
	switch {
	case err != nil:
		return Config{}, fmt.Errorf("the configuration that came: %w", err)
	case r.ID != id:
		return Config{}, fmt.Errorf("%w: the configuration that came is for another enrollment", core.ErrMessage)
	case r.Code < 0:
		return Config{}, fmt.Errorf("%w: the member refuses with %d", core.ErrNotAllocated, r.Code)
	}
	log.Debugf("[%v] Received configuration info (%d bytes).", id, len(b))
	if skew := clk.Now().Sub(r.Time); skew > maxSkew || skew < -maxSkew {
		log.Warnf("[%v] The clock of the member differs by %v.", id, skew.Round(time.Millisecond))
	}
	if err := check(*r.Config); err != nil {
		_ = send(ctx, clk, flow, Ack{id, -int32(core.ErrState)}.Append(nil))
		return Config{}, err
	}
	if err := send(ctx, clk, flow, Ack{ID: id}.Append(nil)); err != nil {
		return Config{}, fmt.Errorf("tell the member: %w", err)
	}
	return *r.Config, nil
}

// Answer is the member's part, on a flow whose component is Enrollment. cfg is the
// configuration that it tells. It returns when the newcomer is a member.
func Answer(ctx context.Context, clk clock.Clock, log Log, flow ipcp.Lower, cfg Config) (ID, error) {
	b, err := receive(ctx, clk, flow, helloTime)
	if err != nil {
		return ID{}, fmt.Errorf("wait for a request: %w", err)
	}
	r, err := ParseRequest(b)
	if err != nil {
		return ID{}, err
	}
	log.Infof("[%v] Handling incoming enrollment.", r.ID)
	b = Response{ID: r.ID, Time: clk.Now(), Config: &cfg}.Append(nil)
	log.Debugf("[%v] Sending enrollment info (%d bytes).", r.ID, len(b))
	if err := send(ctx, clk, flow, b); err != nil {
		return r.ID, fmt.Errorf("send the configuration: %w", err)
	}
	if b, err = receive(ctx, clk, flow, ackTime); err != nil {
		return r.ID, fmt.Errorf("wait for the newcomer: %w", err)
	}
	a, err := ParseAck(b)
	switch {
	case err != nil:
		return r.ID, err
	case a.ID != r.ID:
		return r.ID, fmt.Errorf("%w: the answer is about another enrollment", core.ErrMessage)
	case a.Result != 0:
		return r.ID, fmt.Errorf("%w: the newcomer gave up with %d", core.ErrNotAllocated, a.Result)
	}
	return r.ID, nil
}
