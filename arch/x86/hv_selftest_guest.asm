; Guest programs of the back ends' self-test. The whole image is copied to guest address CODE; programs are entered in
; 64-bit mode with RDI = an address that nothing backs, RSI = a data page. HC is the hypercall instruction: it shows
; the driver the registers. Handlers of all vectors are made by the driver (hv_selftest.c).
bits 64

%define CODE 0x8000
%define GDTR 0x5000
%define IDTR 0x5010
%define SEL_TSS 0x18
%define SEL_USER_DATA 0x2b
%define SEL_USER_CODE 0x33
%define SEL_CODE32 0x38
%define SEL_CODE16 0x40
%define SEL_DATA16 0x48
%define MSR_EFER 0xc0000080
%define MSR_LSTAR 0xc0000082
%define MSR_GS_BASE 0xc0000101
%define MSR_KERNEL_GS_BASE 0xc0000102

%define HC db 0x0f, 0x01, 0xc1
%define OTHER_HC db 0x0f, 0x01, 0xd9
%define ADDRESS(label) (CODE + (label - selftest_image))

%macro program 1
	align	16
	global	program_%1
program_%1:
%endmacro

; Descriptor tables and task register of our own.
%macro tables 0
	lgdt	[abs GDTR]
	lidt	[abs IDTR]
	mov	ax, SEL_TSS
	ltr	ax
%endmacro

; RAX = MSR named in ECX
%macro get_msr 1
	mov	ecx, %1
	rdmsr
	shl	rdx, 32
	or	rax, rdx
%endmacro

; MSR = RAX
%macro set_msr 1
	mov	ecx, %1
	mov	rdx, rax
	shr	rdx, 32
	wrmsr
%endmacro

section .rodata align=16
global selftest_image
global selftest_image_end
selftest_image:

program cpuid
	mov	eax, 0x40000000
	mov	ecx, 7
	cpuid
	HC
	db	0x2e, 0x66		; prefixes that change nothing
	cpuid
	HC

program hlt
	sti
	hlt
	mov	eax, 1
	HC

program hypercall
	HC
	tables
	push	SEL_USER_DATA
	push	0xf000
	push	0x202
	push	SEL_USER_CODE
	push	ADDRESS(.user)
	iretq
.user:
	HC
	jmp	.user

program io
	mov	edx, 0x80
	mov	eax, 0x1234565a
	out	dx, al
	in	eax, 0x71
	HC
	out	0xe9, ax
	mov	edi, 0x20000
	mov	ecx, 3
	mov	edx, 0x1f0
	rep insb
	HC

program msr
	mov	ecx, 0x1b
	rdmsr
	mov	ecx, 0x1234
	mov	eax, 0x89abcdef
	mov	edx, 0x01234567
	wrmsr
	HC

program efer
	tables
	get_msr	MSR_EFER
	mov	rbx, rax
	HC				; as it starts
	mov	rax, rbx
	and	eax, ~0x801		; without NXE and SCE
	set_msr	MSR_EFER
	get_msr	MSR_EFER
	HC
	mov	rax, rbx
	set_msr	MSR_EFER
	mov	rax, rbx
	or	eax, 0x1000		; SVME: #GP
	set_msr	MSR_EFER
	HC
program efer_lme
	tables
	get_msr	MSR_EFER
	and	eax, ~0x100		; LME with paging on: #GP
	set_msr	MSR_EFER
	HC

program cr4
	tables
	mov	rbx, cr4
	mov	rax, rbx
	or	eax, 4			; TSD: allowed
	mov	cr4, rax
	mov	rax, cr4
	HC
	mov	r9, rbx
	or	r9, 0x2000		; VMXE
	mov	cr4, r9
	mov	r9, rbx
	or	r9, 0x40000		; OSXSAVE
	mov	cr4, r9
	mov	rax, cr4
	HC

program cr0
	mov	rbx, cr0
	mov	rax, rbx
	or	eax, 0x60000008		; CD, NW, TS
	and	eax, ~0x20		; NE
	mov	cr0, rax
	mov	rax, cr0
	HC
	mov	cr0, rbx
	clts
	mov	rax, cr0
	HC

program cr8
	mov	eax, 5
	mov	cr8, rax
	xor	eax, eax
	mov	rax, cr8
	HC

program cr3
	mov	rax, cr3
	mov	cr3, rax
	invlpg	[rsi]
	HC

; RDI: address; first a read, then a write, then a call
program touch
	mov	rax, [rdi]
	HC
	mov	[rdi], rsi
	HC
	call	rdi
	HC

program ud
	tables
	ud2
	HC

program triple
	push	0
	push	0
	lidt	[rsp]
	ud2
	HC

program spin
	cli
.loop:
	inc	rbx
	jmp	.loop

program window
	tables
	cli
	mov	eax, 1
	HC
	sti
	inc	ebx			; in the shadow of STI
	inc	ebx
	inc	ebx
	mov	eax, 2
	HC

program enabled
	tables
	mov	eax, 1
	HC
	sti
	nop
	mov	eax, 2
	HC
	mov	eax, 3
	HC
	mov	eax, 4
	HC

; Long mode, compatibility mode, protected mode without paging, real mode, and all the way back.
program modes
	tables
	push	SEL_CODE32
	push	ADDRESS(.compat)
	retfq
bits 32
.compat:
	mov	eax, 1
	HC
	mov	eax, cr0
	and	eax, 0x7fffffff
	mov	cr0, eax
	mov	ecx, MSR_EFER
	rdmsr
	and	eax, ~0x100
	wrmsr
	mov	eax, 2
	HC
	jmp	SEL_CODE16:ADDRESS(.protected16)
bits 16
.protected16:
	mov	ax, SEL_DATA16
	mov	ds, ax
	mov	es, ax
	mov	ss, ax
	mov	eax, cr0
	and	eax, 0xfffffffe
	mov	cr0, eax
	jmp	0:ADDRESS(.real)
.real:
	xor	ax, ax
	mov	ds, ax
	mov	eax, 3
	HC
	cpuid
	out	0x80, al
	lgdt	[GDTR]
	mov	eax, cr0
	or	eax, 1
	mov	cr0, eax
	jmp	dword SEL_CODE32:ADDRESS(.protected)
bits 32
.protected:
	mov	ecx, MSR_EFER
	rdmsr
	or	eax, 0x100
	wrmsr
	mov	eax, cr0
	or	eax, 0x80000000
	mov	cr0, eax
	jmp	0x08:ADDRESS(.long)
bits 64
.long:
	get_msr	MSR_EFER
	mov	rbx, rax
	mov	rax, 4
	HC

; RDI by the driver: this guest's own mark
program fpu
	movq	rax, xmm0
	fnstcw	[rsi]
	movzx	ecx, word [rsi]
	HC
	movq	xmm0, rdi
	movq	xmm15, rdi
	mov	word [rsi], 0x27f
	fldcw	[rsi]
	HC
	movq	rax, xmm0
	movq	rbx, xmm15
	fnstcw	[rsi]
	movzx	ecx, word [rsi]
	HC

program lazy
	get_msr	MSR_LSTAR
	mov	rbx, rax
	get_msr	MSR_KERNEL_GS_BASE
	mov	r8, rax
	mov	r9, dr0
	HC
	mov	rax, rdi
	set_msr	MSR_LSTAR
	mov	rax, rdi
	set_msr	MSR_KERNEL_GS_BASE
	mov	rax, rdi
	set_msr	MSR_GS_BASE
	mov	dr0, rdi
	HC
	get_msr	MSR_LSTAR
	mov	rbx, rax
	get_msr	MSR_KERNEL_GS_BASE
	mov	r8, rax
	mov	r9, dr0
	get_msr	MSR_GS_BASE
	mov	r10, rax
	HC

program loop
	HC
	jmp	program_loop

; TF over an instruction that exits: the trap comes after it
program step
	tables
	pushfq
	or	dword [rsp], 0x100
	popfq
	cpuid
	nop
	HC

program alignment
	tables
	mov	rax, cr0
	or	eax, 0x40000		; AM
	mov	cr0, rax
	push	SEL_USER_DATA
	push	0xf000
	push	0x40202			; AC
	push	SEL_USER_CODE
	push	ADDRESS(.user)
	iretq
.user:
	mov	eax, [0x20001]
	HC

; Each has to end as #UD; the driver steps over them.
program undefined
	tables
	db	0x0f, 0x01, 0xc8	; monitor
	nop
	OTHER_HC
	nop
	db	0x0f, 0x01, 0xd1	; xsetbv
	nop
	db	0x0f, 0x01, 0xd8	; vmrun
	nop
	db	0x0f, 0x01, 0xc2	; vmlaunch
	nop
	db	0x0f, 0x01, 0xdd	; clgi
	nop
	HC

; RDI by the driver: a mark that stays in a vector register
program cache
	movq	xmm0, rdi
	wbinvd
	invd
	movq	rax, xmm0
	HC

program tsc
	rdtsc
	shl	rdx, 32
	or	rax, rdx
	HC
	jmp	program_tsc

selftest_image_end:
section .note.GNU-stack noalloc noexec nowrite progbits
