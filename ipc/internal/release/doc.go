// Package release stores words for another core to load: whoever loads such a
// word, by package atomic, sees all that was stored before it. That, and no
// more, is what handing over needs, and package atomic has no word for it: its
// Store also keeps this core from loading anything until the others have seen
// the word, which on amd64 costs more than the rest of a small packet.
package release
