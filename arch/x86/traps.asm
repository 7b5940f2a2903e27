; Entry of every exception and interrupt: one stub a vector, one common path that saves the
; general registers as struct trap_frame (arch/x86/traps.h) and calls trap_handle(frame).

BITS 64
DEFAULT REL

extern trap_handle
extern lapic_window
global trap_stubs
global trap_wake

TRAP_STUB_BYTES equ 16
CPU_IRQS equ 8			; struct cpu, which GS points to
LAPIC_EOI equ 0xb0
MSR_X2APIC_EOI equ 0x80b

section .text
; Vectors where the processor pushes an error code itself.
%macro STUB 1
	align TRAP_STUB_BYTES
%if %1 == 8 || (%1 >= 10 && %1 <= 14) || %1 == 17 || %1 == 21 || %1 == 29 || %1 == 30
%else
	push 0
%endif
	push %1
	jmp trap_common
%endmacro

	align TRAP_STUB_BYTES
trap_stubs:
%assign vector 0
%rep 256
	STUB vector
%assign vector vector + 1
%endrep

; VECTOR_TIMER and VECTOR_KICK: the CPU loop looks at the clock and its queues when it goes on. Nothing else is to be done
; than to count and acknowledge them, and the way of every timer leads through here.
trap_wake:
	push rax
	inc qword [abs gs:CPU_IRQS]
	mov rax, [lapic_window]
	test rax, rax
	jz .x2apic
	mov dword [rax + LAPIC_EOI], 0
	pop rax
	iretq
.x2apic:
	push rcx
	push rdx
	mov ecx, MSR_X2APIC_EOI
	xor eax, eax
	xor edx, edx
	wrmsr
	pop rdx
	pop rcx
	pop rax
	iretq

trap_common:
	push rax
	push rcx
	push rdx
	push rbx
	push rbp
	push rsi
	push rdi
	push r8
	push r9
	push r10
	push r11
	push r12
	push r13
	push r14
	push r15
	cld
	mov rdi, rsp
	call trap_handle	; the frame is 22 words, so RSP is 16-byte aligned here
	pop r15
	pop r14
	pop r13
	pop r12
	pop r11
	pop r10
	pop r9
	pop r8
	pop rdi
	pop rsi
	pop rbp
	pop rbx
	pop rdx
	pop rcx
	pop rax
	add rsp, 16		; vector, error code
	iretq
