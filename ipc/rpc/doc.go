// Package rpc carries typed calls over a Unix SOCK_SEQPACKET socket: one
// msgpack message a packet, descriptors with the message that names them,
// errors that keep their core.Errno. It knows no method and no policy: its callers
// decide what the calls mean, and which process may make them.
//
// # Messages
//
// A packet is one msgpack array; the first element says which kind:
//
//	[0, "o7s", version, instance]     hello, the first packet both ways
//	[1, id, files, method, body]      call; answered by 3 or 4 with the same id
//	[2, 0, files, method, body]       notification, never answered
//	[3, id, files, body]              reply
//	[4, id, code, text]               error instead of a reply
//	[5, id]                           cancel: the caller no longer waits; still answered
//	[6, code, text]                   bye: why this end ends the link
//	[7, message, ...]                 several of 1 to 6, in order, each as a bin 16;
//	                                  without descriptors
//
// The hello's four elements are the same in every version; a later version may
// only append to them. A body is a struct as an array of its fields, in order. A
// packet has at most MaxMessage bytes and MaxFiles descriptors, and says how many.
//
// # Goroutines
//
// A Link has one goroutine of its own, its reader. The reader runs handlers
// registered with Handle, OnCancel functions, done functions of Go and late
// functions of Do, one after the other. So they must not block, and must not wait
// for an answer on the same link. Handlers registered with HandleBlocking have a
// goroutine each.
//
// While the reader handles a packet, the messages that are sent on its link are
// held. They go as one packet when that is done.
//
// Writing never blocks: a packet that the socket does not take at once goes into a
// bounded queue. A peer that does not read makes no writer wait, and loses its link.
//
// # Message types
//
// A message type is a struct of bools, integers, strings, []byte, slices, pointers
// and such structs. No type contains itself. Every other type is refused when the
// method is registered. A message that arrives is checked against the type before it
// is decoded: kinds, the number of a struct's fields, the range of integers and every
// declared length.
package rpc
