package ipc

// The methods here are for programs that need every nanosecond. Read and Write
// copy each packet once at either end, which is right for most. A batch pays
// where packets are small, since the other end is told once for many; lending
// pays where they are large and made or used in place, since nothing is copied.

// ReadBatch waits for one packet as ReadPacket does, then reads those that are
// there already: one into each of bufs, its length into the same place of
// sizes. It returns how many it read: at least 1, at most the shorter of the
// two lengths. A packet too long for its buffer stays and ends the batch; if
// it is the first, the error wraps io.ErrShortBuffer.
func (c *Conn) ReadBatch(bufs [][]byte, sizes []int) (int, error) {
	n, err := c.io.ReadBatch(bufs, sizes)
	if err != nil {
		err = c.wrap("read", err)
	}
	return n, err
}

// WriteBatch sends each of packets as WritePacket does and returns how many it
// sent; an error belongs to the one after those.
func (c *Conn) WriteBatch(packets [][]byte) (int, error) {
	n, err := c.io.WriteBatch(packets)
	if err != nil {
		err = c.wrap("write", err)
	}
	return n, err
}

// TryWritePacket is WritePacket, but where there is no room it returns an error
// that wraps core.ErrLimit rather than wait.
func (c *Conn) TryWritePacket(p []byte) error {
	if err := c.io.TryWritePacket(p); err != nil {
		return c.wrap("write", err)
	}
	return nil
}

// TryReadPacket is ReadPacket, but where there is no packet now it returns 0
// and no error rather than wait. It is for programs that poll.
func (c *Conn) TryReadPacket(p []byte) (int, error) {
	n, err := c.io.TryReadPacket(p)
	if err != nil {
		err = c.wrap("read", err)
	}
	return n, err
}

// Reserve lends n bytes of the ring, 1 to MaxPacket, to be filled with a
// packet and sent by Commit; it waits for room as Write does. Another n is
// refused with core.ErrUsage. The slice may hold old bytes, and must not be
// used after Commit. Until then every other call that writes returns an error
// that wraps core.ErrState, and a Close leaves the memory mapped.
func (c *Conn) Reserve(n int) ([]byte, error) {
	p, err := c.io.Reserve(n)
	if err != nil {
		return nil, c.wrap("write", err)
	}
	return p, nil
}

// Commit sends the first n bytes that Reserve lent as one packet; 0 sends
// nothing and gives them back. Without a Reserve before it, the error wraps
// core.ErrState; for more than was lent, core.ErrUsage.
func (c *Conn) Commit(n int) error {
	if err := c.io.Commit(n); err != nil {
		return c.wrap("write", err)
	}
	return nil
}

// Peek lends the packet at the head, or what Read left of it. It waits for one as Read
// does. The slice is the ring itself: do not change it, and do not use it after Release.
// Until then every other call that reads returns an error that wraps core.ErrState, and a
// Close leaves the memory mapped. The peer can change the slice at any time. If you do not
// trust the peer, copy what you check before you check it.
func (c *Conn) Peek() ([]byte, error) {
	p, err := c.io.Peek()
	if err != nil {
		return nil, c.wrap("read", err)
	}
	return p, nil
}

// Release takes the packet that Peek lent off the flow. Without a Peek before
// it, the error wraps core.ErrState.
func (c *Conn) Release() error {
	if err := c.io.Release(); err != nil {
		return c.wrap("read", err)
	}
	return nil
}
