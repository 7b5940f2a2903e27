; The SVM world switch. Offsets are those of struct hv_regs (arch/x86/hv.h).
;
; void svm_begin(u64 vmcb_pa)				the guest's FS, GS, TR, LDTR and SYSCALL registers in
; void svm_enter(struct hv_regs *regs, u64 vmcb_pa)	into the guest and back; any number of times
; void svm_end(u64 vmcb_pa, u64 host_pa)		the host's in again
;
; Called with interrupts off. Between svm_begin and svm_end GIF is clear: nothing interrupts the host, so that FS, GS and TR
; may be the guest's; code there must not use this CPU's data (it is found through GS). IF=1 at VMRUN makes host interrupts
; end the guest's turn (AMD APM "Interrupt Masking in EFLAGS.IF": with V_INTR_MASKING the host's IF decides); they stay
; pending. RAX, RSP, RIP, RFLAGS, CR2 and DR6/7 are in the VMCB.
bits 64
default rel
%include "arch/x86/mitigate.inc"

%define R_RCX 8
%define R_RDX 16
%define R_RBX 24
%define R_RBP 40
%define R_RSI 48
%define R_RDI 56
%define R_R8 64
%define R_R9 72
%define R_R10 80
%define R_R11 88
%define R_R12 96
%define R_R13 104
%define R_R14 112
%define R_R15 120

section .text
global svm_begin:function
global svm_enter:function
global svm_end:function

svm_begin:
	clgi
	sti
	mov	rax, rdi
	vmload
	ret

svm_end:
	mov	rax, rdi
	vmsave
	cli
	mov	rax, rsi
	vmload
	stgi
	ret

	align	16
svm_enter:
	push	rbx
	push	rbp
	push	r12
	push	r13
	push	r14
	push	r15
	push	rdi			; [rsp] regs
	MITIGATE_ENTRY_MSRS
	mov	rax, rsi
	mov	rcx, [rdi + R_RCX]
	mov	rdx, [rdi + R_RDX]
	mov	rbx, [rdi + R_RBX]
	mov	rbp, [rdi + R_RBP]
	mov	rsi, [rdi + R_RSI]
	mov	r8, [rdi + R_R8]
	mov	r9, [rdi + R_R9]
	mov	r10, [rdi + R_R10]
	mov	r11, [rdi + R_R11]
	mov	r12, [rdi + R_R12]
	mov	r13, [rdi + R_R13]
	mov	r14, [rdi + R_R14]
	mov	r15, [rdi + R_R15]
	mov	rdi, [rdi + R_RDI]
	MITIGATE_VERW
	vmrun
	MITIGATE_RSB
	pop	rax			; RAX and RSP are the host's again
	mov	[rax + R_RCX], rcx
	mov	[rax + R_RDX], rdx
	mov	[rax + R_RBX], rbx
	mov	[rax + R_RBP], rbp
	mov	[rax + R_RSI], rsi
	mov	[rax + R_RDI], rdi
	mov	[rax + R_R8], r8
	mov	[rax + R_R9], r9
	mov	[rax + R_R10], r10
	mov	[rax + R_R11], r11
	mov	[rax + R_R12], r12
	mov	[rax + R_R13], r13
	mov	[rax + R_R14], r14
	mov	[rax + R_R15], r15
	MITIGATE_EXIT_MSRS
	pop	r15
	pop	r14
	pop	r13
	pop	r12
	pop	rbp
	pop	rbx
	ret

section .note.GNU-stack noalloc noexec nowrite progbits
