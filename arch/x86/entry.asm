; First instructions of the hypervisor, and the change of stacks.
; Entered by the boot loader as boot/boot_info.h says: RDI = physical address of struct boot_info.

BITS 64
DEFAULT REL

extern hv_main
global hv_entry
global cpu_continue_on_stack

DIRECT_MAP_BASE equ 0xffff800000000000
BOOT_STACK_BYTES equ 32768

section .text.entry progbits alloc exec nowrite align=16
hv_entry:
	cli
	cld
	lea rsp, [boot_stack_top]
	xor ebp, ebp			; ends backtraces
	mov rax, DIRECT_MAP_BASE
	add rdi, rax
	call hv_main
.stop:
	hlt
	jmp .stop

section .text
; _Noreturn void cpu_continue_on_stack(u64 stack_top, void (*fn)(void *arg), void *arg)
cpu_continue_on_stack:
	mov rsp, rdi
	xor ebp, ebp
	mov rdi, rdx
	call rsi
	ud2

section .bss nobits alloc noexec write align=4096
boot_stack:
	resb BOOT_STACK_BYTES
boot_stack_top:
