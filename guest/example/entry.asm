; What C cannot say of the example guest: the first instructions, segments of its own, an interrupt, the hypercall page.
bits 64
default rel

global _start, upcall, hypercall_page
extern example

section .text
; RDI = struct aero_start. The GDT that came with the segments has limit 0, and an interrupt loads them again.
_start:
	lgdt [gdt_pointer]
	lea rsp, [stack_end]
	call example
	ud2

; Says only that there may be something to look at, and wants no answer.
upcall:
	iretq

section .rodata
gdt:	dq 0, 0x00af9b000000ffff, 0x00cf93000000ffff ; CS 0x08: 64-bit code; the others 0x10: data
gdt_pointer:
	dw $ - gdt - 1
	dq gdt

; The hypervisor writes a routine for this processor at its beginning.
section .hypercall progbits alloc exec nowrite align=4096
hypercall_page:
	times 4096 db 0xcc

section .bss align=16
	resb 16384
stack_end:

section .note.GNU-stack noalloc noexec nowrite progbits
