//go:build !race

#include "go_asm.h"
#include "textflag.h"

// func publishUnlock(state *atomic.Uint32, first *atomic.Uint64, a uint64, second *atomic.Uint64, b uint64, flag *atomic.Uint32) bool
//
// Other cores see the stores of an amd64 processor in their order. XCHG is a full
// barrier. While the state is leaving no other goroutine changes it.
TEXT ·publishUnlock(SB), NOSPLIT, $0-49
	MOVQ  state+0(FP), DI
	MOVQ  first+8(FP), AX
	MOVQ  a+16(FP), BX
	MOVQ  second+24(FP), CX
	MOVQ  b+32(FP), DX
	MOVQ  flag+40(FP), SI
	MOVL  $const_leaving, R8
	MOVQ  BX, (AX)
	MOVQ  DX, (CX)
	XCHGL R8, (DI)
	CMPL  R8, $const_held
	JNE   stay
	CMPL  (SI), $0
	JNE   stay
	MOVL  $const_free, (DI)
	MOVB  $1, ret+48(FP)
	RET
stay:
	MOVL  R8, (DI)
	MOVB  $0, ret+48(FP)
	RET
