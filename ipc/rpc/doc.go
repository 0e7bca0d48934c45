// Package rpc carries typed calls over a Unix SOCK_SEQPACKET socket: one
// msgpack message a packet, descriptors with the message that names them,
// errors that keep their core.Errno. It knows no method and no policy: what
// the calls mean, and who may make them, is its callers' business.
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
// The hello's four elements stay what they are in every version; a later
// version may only append to them. A body is a struct as an array of its
// fields, in order. A packet has at most MaxMessage bytes and MaxFiles
// descriptors, whose number it declares.
//
// # Goroutines
//
// A Link has one goroutine of its own, its reader. Handlers registered with
// Handle, OnCancel functions, done functions of Go and late functions of Do
// all run there, one after the other, so they must not block, and must not
// wait for an answer on the same link. Handlers registered with
// HandleBlocking have a goroutine each.
//
// What is sent on a link while its reader handles a packet goes as one packet
// when that is done.
//
// Writing never blocks: what the socket does not take at once goes into a
// bounded queue, and a peer that does not read loses its link, not the
// writer's time.
//
// # Message types
//
// A message type is a struct of bools, integers, floats, strings, []byte,
// other slices, arrays, maps, pointers and such structs, or a type with its own
// msgpack.CustomEncoder and CustomDecoder. Interfaces, time.Time, embedded
// fields and msgpack tag options are refused when the method is registered:
// the msgpack package panics or allocates without bound on hostile bytes for
// some of them. What arrives is checked against the type before it is decoded:
// kinds, the number of a struct's fields, the range of integers and every
// declared length.
package rpc
