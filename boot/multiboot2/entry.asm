; First instructions of the multiboot2 loader. A boot loader that knows multiboot2 (GRUB) or its predecessor (QEMU's -kernel) enters
; mb2_entry in 32-bit protected mode without paging: EAX = magic, EBX = address of the information. The image lies wherever it found room, at a
; multiple of 2 MiB: until paging is on, everything is reached relative to EBP = where the image starts. Then tables are
; built that map the first 4 GiB 1:1 and the image where it is linked, and C takes over in long mode.

extern mb2_main
; Offsets from the start of the image, from boot/multiboot2/loader.ld.
extern mb2_off_tables
extern mb2_off_stack_top
extern mb2_off_loaded
extern mb2_off_end
extern mb2_stack_top
global mb2_entry
global mb2_enter

LOADER_MAGIC   equ 0x36d76289
LOADER1_MAGIC  equ 0x2badb002
HEADER_MAGIC   equ 0xe85250d6
HEADER1_MAGIC  equ 0x1badb002
HEADER1_FLAGS  equ 0x10003		; modules at page boundaries, a memory map; addresses in the header
LOAD_ADDR      equ 0x200000		; as in loader.ld
IMAGE_ALIGN    equ 0x200000
IMAGE_ADDR_MAX equ 0xffffffff
SCREEN_WIDTH   equ 1024
SCREEN_HEIGHT  equ 768
SCREEN_DEPTH   equ 32
PTE_TABLE      equ 0x3		; present, writable
PTE_LARGE      equ 0x83
PAGE           equ 4096
GIBS           equ 4		; mapped 1:1
CR0_PG         equ 1 << 31
CR4_PAE        equ 1 << 5
MSR_EFER       equ 0xc0000080
EFER_LME       equ 1 << 8
CPUID_EXT_MAX  equ 0x80000000
CPUID_EXT      equ 0x80000001
CPUID_LM_BIT   equ 29
COM1           equ 0x3f8
SEL_CODE       equ 8
SEL_DATA       equ 16

section .multiboot2 progbits alloc exec write align=4096
image_first:
header:
	dd HEADER_MAGIC, 0, header_end - header
	dd 0x100000000 - (HEADER_MAGIC + (header_end - header))
	; a frame buffer, if there is one
	align 8, db 0
	dw 5, 1
	dd 20, SCREEN_WIDTH, SCREEN_HEIGHT, SCREEN_DEPTH
	; modules at page boundaries
	align 8, db 0
	dw 6, 0
	dd 8
	; relocatable, as low as possible
	align 8, db 0
	dw 10, 0
	dd 24, IMAGE_ALIGN, IMAGE_ADDR_MAX, IMAGE_ALIGN, 1
	align 8, db 0
	dw 0, 0
	dd 8
header_end:

	; The first multiboot has no relocation, and knows 64-bit files only by these addresses.
	align 4, db 0
header1:
	dd HEADER1_MAGIC, HEADER1_FLAGS, 0x100000000 - (HEADER1_MAGIC + HEADER1_FLAGS)
	dd LOAD_ADDR + (header1 - image_first), LOAD_ADDR
	dd LOAD_ADDR + mb2_off_loaded, LOAD_ADDR + mb2_off_end
	dd LOAD_ADDR + (mb2_entry - image_first)

BITS 32
mb2_entry:
	cli
	cld
	mov esi, eax
	cmp eax, LOADER_MAGIC
	je .known
	cmp eax, LOADER1_MAGIC
	jne stop32
.known:
	; There is no stack yet; the information's second word is reserved (in the first multiboot a size that nobody reads) and will
	; do for one return address.
	lea esp, [ebx + 8]
	call .here
.here:
	pop ebp
	sub ebp, .here - image_first
	lea esp, [ebp + mb2_off_stack_top]
	call check_long_mode
	call build_tables
	mov eax, cr4
	or eax, CR4_PAE
	mov cr4, eax
	lea eax, [ebp + mb2_off_tables]
	mov cr3, eax
	mov ecx, MSR_EFER
	rdmsr
	or eax, EFER_LME
	wrmsr
	mov eax, cr0
	or eax, CR0_PG
	mov cr0, eax
	lea eax, [ebp + (gdt - image_first)]
	push eax
	push word gdt_end - gdt - 1
	lgdt [esp]
	lea eax, [ebp + (entry64 - image_first)]
	push dword SEL_CODE
	push eax
	retf

check_long_mode:
	push ebx
	mov eax, CPUID_EXT_MAX
	cpuid
	cmp eax, CPUID_EXT
	jb no_long_mode
	mov eax, CPUID_EXT
	cpuid
	bt edx, CPUID_LM_BIT
	jnc no_long_mode
	pop ebx
	ret

no_long_mode:
	lea esi, [ebp + (no_long_mode_text - image_first)]
	mov dx, COM1
.next:
	lodsb
	test al, al
	jz stop32
	out dx, al
	mov ecx, 100000		; a character takes 87 us
.wait:
	pause
	loop .wait
	jmp .next

stop32:
	hlt
	jmp stop32

; Eight zeroed pages: top; level 3 of the low addresses, of the image; level 2 of the image, of the four GiB.
build_tables:
	lea edi, [ebp + mb2_off_tables]
	lea eax, [edi + 1 * PAGE + PTE_TABLE]
	mov [edi], eax
	lea eax, [edi + 2 * PAGE + PTE_TABLE]
	mov [edi + 511 * 8], eax
	lea eax, [edi + 3 * PAGE + PTE_TABLE]
	mov [edi + 2 * PAGE + 511 * 8], eax
	lea eax, [ebp + PTE_LARGE]
	mov [edi + 3 * PAGE], eax
	lea eax, [edi + 4 * PAGE + PTE_TABLE]
	xor ecx, ecx
.level3:
	mov [edi + PAGE + ecx * 8], eax
	add eax, PAGE
	inc ecx
	cmp ecx, GIBS
	jb .level3
	mov eax, PTE_LARGE
	xor ecx, ecx
.level2:
	mov [edi + 4 * PAGE + ecx * 8], eax
	add eax, IMAGE_ALIGN
	inc ecx
	cmp ecx, GIBS * 512
	jb .level2
	ret

BITS 64
DEFAULT REL
entry64:
	mov ax, SEL_DATA
	mov ds, ax
	mov es, ax
	mov ss, ax
	mov fs, ax
	mov gs, ax
	mov rsp, mb2_stack_top
	mov rax, .linked
	jmp rax
.linked:
	mov edx, esi
	mov edi, ebx
	mov esi, ebp
	xor ebp, ebp
	call mb2_main
.stop:
	hlt
	jmp .stop

; _Noreturn void mb2_enter(u64 top_table, u64 entry, u64 info, u64 base): from here, where it lies 1:1 in the old tables and
; in the new ones, into the hypervisor.
mb2_enter:
	lea rax, [.low]
	lea r8, [image_first]
	sub rax, r8
	add rax, rcx
	jmp rax
.low:
	mov cr3, rdi
	mov rdi, rdx
	jmp rsi

align 8
gdt:
	dq 0
	dq 0x00209a0000000000	; 64-bit code
	dq 0x0000920000000000	; data
gdt_end:

no_long_mode_text:
	db "Aerostat: error: this processor has no 64-bit mode", 13, 10, 0
