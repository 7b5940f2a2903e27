; The VMX world switch. Offsets are those of struct hv_regs (arch/x86/hv.h).
;
; int vmx_enter(struct hv_regs *regs, bool launched)
;
; The VMCS is current and its HOST_RIP is vmx_exit_entry. Returns 0 after an exit; 1 (VMfailInvalid) or 2
; (VMfailValid) when the entry did not happen, with regs untouched. RSP, RIP and RFLAGS are in the VMCS, CR2 is the
; caller's to switch.
bits 64
default rel
%include "arch/x86/mitigate.inc"

%define R_RAX 0
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
%define VMCS_HOST_RSP 0x6c14

section .text
global vmx_enter:function
global vmx_exit_entry:function
vmx_enter:
	push	rbx
	push	rbp
	push	r12
	push	r13
	push	r14
	push	r15
	push	rdi			; [rsp] regs
	MITIGATE_ENTRY_MSRS
	mov	eax, VMCS_HOST_RSP
	vmwrite	rax, rsp
	test	sil, sil		; the flag lives until the jump: MOV keeps it
	mov	rax, [rdi + R_RAX]
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
	jnz	.resume
	MITIGATE_VERW
	vmlaunch
	jmp	.failed
.resume:
	MITIGATE_VERW
	vmresume
.failed:
	mov	eax, 1			; CF
	jc	.out
	mov	eax, 2			; ZF
.out:
	add	rsp, 8
	mov	esi, eax
	MITIGATE_EXIT_MSRS
	mov	eax, esi
	jmp	restore

vmx_exit_entry:				; RSP is the host's, interrupts are off, DF is clear
	MITIGATE_RSB
	push	rax
	mov	rax, [rsp + 8]
	mov	[rax + R_RCX], rcx
	pop	qword [rax + R_RAX]
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
	add	rsp, 8
	MITIGATE_EXIT_MSRS
	xor	eax, eax
restore:
	pop	r15
	pop	r14
	pop	r13
	pop	r12
	pop	rbp
	pop	rbx
	ret

section .note.GNU-stack noalloc noexec nowrite progbits
