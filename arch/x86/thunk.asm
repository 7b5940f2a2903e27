; Indirect calls and jumps of the C code come here (-mindirect-branch=thunk-extern): each thunk is a retpoline, a return whose
; prediction runs into a loop that does nothing. mitigate_init() replaces them by plain jumps where the processor needs none.
bits 64
default rel

%define THUNK_BYTES 32

section .text
%macro THUNK 1
	align	THUNK_BYTES, int3
global __x86_indirect_thunk_%1:function
__x86_indirect_thunk_%1:
	call	%%go
%%trap:
	pause
	lfence
	jmp	%%trap
%%go:
	mov	[rsp], %1
	ret
%endmacro

global mitigate_thunks
	align	THUNK_BYTES, int3
mitigate_thunks:			; in the order of the registers' numbers, without RSP
	THUNK	rax
	THUNK	rcx
	THUNK	rdx
	THUNK	rbx
	THUNK	rbp
	THUNK	rsi
	THUNK	rdi
	THUNK	r8
	THUNK	r9
	THUNK	r10
	THUNK	r11
	THUNK	r12
	THUNK	r13
	THUNK	r14
	THUNK	r15
	align	THUNK_BYTES, int3

section .note.GNU-stack noalloc noexec nowrite progbits
