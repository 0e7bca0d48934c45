// Package ring is a queue of packets, with one producer and one consumer, in
// plain memory that both share. It maps no memory, makes no system call and
// never waits. It only says when the other side must be woken.
//
// # Trust
//
// The other side may be hostile. It may write anything, anywhere in the shared
// memory, at any time. So each side keeps its own position, the size and every
// limit in private memory. It loads each shared word once, checks the copy and
// uses the copy. A violation gives an error that wraps [core.ErrCorrupt]; the
// caller must not use the ring any more. The bytes of a packet can change until
// they are copied.
//
// # Layout
//
//	page 0     words of direction 0 at 0, of direction 1 at 1024;
//	           each word alone on 128 bytes
//	page 1..   ring of direction 0, then ring of direction 1
//
//	 +0    wpos     u64  bytes written so far, by the producer
//	 +128  rpos     u64  bytes read so far, by the consumer
//	 +256  rwait    u32  the consumer sleeps: 1
//	 +384  wwait    u32  the producer sleeps: 1
//	 +512  eof      u32  the producer writes no more: 1
//	 +640  gone     u32  the consumer reads no more: 1
//	 +768  process  u64  a number for the producer's process, a hint
//
// A record is a header of 8 bytes, the packet, and padding to 8 bytes. The
// header is one of three: the packet's length, 1 to [core.MaxPacket]; skipMark,
// which says that the rest of the ring is unused and the next record is at the
// start of the ring; 0, which says that there is no record yet. A record never
// wraps around. Positions only grow and are multiples of 8.
//
// The header publishes a record. The producer writes it last, after it wrote a 0
// where the next header will be. So a packet moves between cores in the cache
// lines that it fills, and no line moves for a position: a round trip takes a
// quarter less time. wpos follows the header. Observers load it, and so does the
// consumer when it decides whether to wake the producer. The first packet
// of a ring is known by wpos too: to load from memory that was never written to
// would allocate a page.
//
// Words are native-endian: both sides run on one machine. A word has 128 bytes,
// not 64, because some processors fetch cache lines in pairs.
package ring
