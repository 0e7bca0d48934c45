// Package ring is a single-producer, single-consumer queue of packets in plain
// memory that the two sides share. It maps no memory, makes no system call and
// never waits: it only says when the other side wants to be woken.
//
// # Trust
//
// The other side may be hostile and may write anything, anywhere in the shared
// memory, at any time. So each side keeps its own position, the size and every
// limit in private memory, loads each shared word once, checks the copy and
// uses the copy. A violation gives an error that wraps [core.ErrCorrupt]; the
// caller must not use the ring any more. The contents of packets can change
// until they are copied.
//
// # Layout
//
//	page 0     words of direction 0 at 0, of direction 1 at 1024;
//	           each word alone on 128 bytes
//	page 1..   ring of direction 0, then ring of direction 1
//
//	 +0    wpos   u64  bytes written so far, by the producer
//	 +128  rpos   u64  bytes read so far, by the consumer
//	 +256  rwait  u32  the consumer sleeps: 1
//	 +384  wwait  u32  the producer sleeps: 1
//	 +512  eof    u32  the producer writes no more: 1
//	 +640  gone   u32  the consumer reads no more: 1
//	 +768  who    u64  a number for the producer's process, a hint
//
// A record is a header of 8 bytes, the packet, and padding to 8 bytes. The
// header is the packet's length, 1 to [core.MaxPacket]; skipMark says that the
// rest of the ring is unused and the next record is at its start; 0, that
// nothing is there yet. A record never wraps around. Positions only grow and are
// multiples of 8.
//
// The header is what shows a record: the producer writes it last, after a 0
// where the next header will be. So a packet goes from core to core in the cache
// lines that it fills, and none for a position, which is a quarter less time
// for a round trip. wpos follows, for observers, for a producer that wants to be
// woken when half of it is read, and for the first packet of a ring: a look at
// memory that was never written to would take some.
//
// Words are native-endian: both sides run on one machine. 128 bytes, not 64,
// because some processors fetch cache lines in pairs.
package ring
