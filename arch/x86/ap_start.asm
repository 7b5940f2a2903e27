; The first instructions of every processor but the boot CPU. smp.c copies this to a page below 1 MiB, fills in the
; parameters at its end (struct ap_params) and points the start-up IPI at it: real mode, CS:IP = page:0000.
; From there straight into long mode, on tables that map the low page 1:1 and the hypervisor where it belongs.

global ap_trampoline
global ap_trampoline_end

AP_PARAMS equ 0xf00			; offset in the page; layout as struct ap_params
PARAM_CR3 equ AP_PARAMS
PARAM_EFER equ AP_PARAMS + 4
PARAM_STACK equ AP_PARAMS + 8
PARAM_ENTRY equ AP_PARAMS + 16
PARAM_ARG equ AP_PARAMS + 24

CR0_PE_PG equ 0x80000001
CR0_CACHE_OFF equ 0x60000000		; CD and NW, as INIT leaves them
CR4_PAE equ 0x20
MSR_EFER equ 0xc0000080
SEL_CODE equ 0x08
SEL_DATA equ 0x10
%define AT(label) (label - ap_trampoline)

section .rodata
align 16
BITS 16
ap_trampoline:
	cli
	cld
	mov ax, cs
	mov ds, ax
	movzx ebx, ax
	shl ebx, 4			; where we are
	lea eax, [ebx + AT(gdt)]
	mov [AT(gdt_pointer) + 2], eax
	lea eax, [ebx + AT(long_mode)]
	mov [AT(far_target)], eax
	o32 lgdt [AT(gdt_pointer)]
	mov eax, CR4_PAE
	mov cr4, eax
	mov eax, [PARAM_CR3]
	mov cr3, eax
	mov ecx, MSR_EFER
	rdmsr
	or eax, [PARAM_EFER]
	wrmsr
	mov eax, cr0
	and eax, ~CR0_CACHE_OFF
	or eax, CR0_PE_PG
	mov cr0, eax
	o32 jmp far [AT(far_target)]

BITS 64
long_mode:
	mov ebx, ebx
	mov eax, SEL_DATA
	mov ds, eax
	mov es, eax
	mov ss, eax
	mov rsp, [rbx + PARAM_STACK]
	mov rdi, [rbx + PARAM_ARG]
	xor ebp, ebp			; ends backtraces
	push 0				; no return address: does not come back
	jmp [rbx + PARAM_ENTRY]

align 8
gdt:
	dq 0
	dq 0x00af9b000000ffff
	dq 0x00cf93000000ffff
gdt_pointer:
	dw 23
	dd 0
far_target:
	dd 0
	dw SEL_CODE
ap_trampoline_end:
