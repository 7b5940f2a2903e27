; Entry from the hypervisor, trap stubs, the hypercall page.
bits 64
default rel

STACK_BYTES equ 32768

global _start, cpu_trap_stubs, hypercall_page, boot_stack, cpu_probe, cpu_probe_abort, cpu_probe_rsp, arch_wait, hypercall_raw, \
	cpu_entry, hypercall_vcpu_start
extern machine_start, machine_start_other, trap_handle

section .text

; RDI = struct aero_start. Interrupts are off, the first 4 GiB are mapped 1:1.
_start:
	cld
	lea rsp, [boot_stack + STACK_BYTES]
	xor ebp, ebp
	call machine_start
	ud2

; Another vCPU: RDI = its number, RSP its stack, CR3 the kernel's.
cpu_entry:
	cld
	xor ebp, ebp
	call machine_start_other
	ud2

; s64 hypercall_vcpu_start(u64 vcpu, u64 rip, u64 rsp, u64 cr3, u64 arg)
hypercall_vcpu_start:
	mov r9, r8
	mov r8, rcx
	mov eax, 12
	call hypercall_page
	ret

; One stub a vector: a uniform frame (struct trap_frame), then trap_handle(frame).
%macro stub 1
	align 16
%if %1 == 8 || (%1 >= 10 && %1 <= 14) || %1 == 17 || %1 == 21 || %1 == 29 || %1 == 30
%else
	push 0
%endif
	push strict dword %1
	jmp trap_common
%endmacro

	align 16
cpu_trap_stubs:
%assign v 0
%rep 256
	stub v
%assign v v + 1
%endrep

trap_common:
	push rax
	push rbx
	push rcx
	push rdx
	push rsi
	push rdi
	push rbp
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
	call trap_handle
	pop r15
	pop r14
	pop r13
	pop r12
	pop r11
	pop r10
	pop r9
	pop r8
	pop rbp
	pop rdi
	pop rsi
	pop rdx
	pop rcx
	pop rbx
	pop rax
	add rsp, 16
	iretq

; s64 cpu_probe(void (*fn)(u64), u64 arg)
cpu_probe:
	push rbx
	push rbp
	push r12
	push r13
	push r14
	push r15
	pushfq
	mov [cpu_probe_rsp], rsp
	mov rax, rdi
	mov rdi, rsi
	call rax
	mov rax, -1
.leave:
	mov qword [cpu_probe_rsp], 0
	popfq
	pop r15
	pop r14
	pop r13
	pop r12
	pop rbp
	pop rbx
	ret

; void cpu_probe_abort(u64 vector)
cpu_probe_abort:
	mov rsp, [cpu_probe_rsp]
	mov rax, rdi
	jmp cpu_probe.leave

; s64 hypercall_raw(u64 number, u64 a0, u64 a1, u64 a2, u64 *second): all registers but RAX and RDX are kept.
hypercall_raw:
	push r8
	mov rax, rdi
	mov rdi, rsi
	mov rsi, rdx
	mov rdx, rcx
	xor r9d, r9d
	xor r8d, r8d
	call hypercall_page
	pop r8
	test r8, r8
	jz .done
	mov [r8], rdx
.done:
	ret

; void arch_wait(const u64 *events): an interrupt between STI and HLT is taken after HLT, so it ends the sleep.
arch_wait:
	cli
	cmp qword [rdi], 0
	jne .pending
	sti
	hlt
	ret
.pending:
	sti
	ret

; Filled by the hypervisor; the kernel calls its first byte.
section .hypercall progbits alloc exec nowrite align=4096
hypercall_page:
	times 4096 db 0xcc

section .bss
	align 4096
guard:	resb 4096
boot_stack:
	resb STACK_BYTES
	align 8
cpu_probe_rsp:
	resq 1

section .note.GNU-stack noalloc noexec nowrite progbits
