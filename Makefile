# Aerostat: one non-recursive Makefile. `make help` lists the targets.
#
# Sources are listed by part. The hypervisor is built without SSE, red zone or
# PIC; the same lib/ and mm/ (and vmm's parsers) are built again for the host
# under ASan and UBSan for unit tests and fuzzers.

.DEFAULT_GOAL := all
.SUFFIXES:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
# All processors, unless -j says otherwise; what one of them prints stays together where nobody looks at it meanwhile.
GOALS := $(or $(MAKECMDGOALS),all)
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
ifeq ($(filter run run-bochs debug unit fuzz test bench bench-memory soak,$(GOALS)),)
MAKEFLAGS += --output-sync=target
endif
endif

B := build
CC := gcc
CLANG := clang
LD := ld
NASM := nasm
OBJCOPY := objcopy
NM := nm
# DEBUG=0 builds without DCHECK and poison.
DEBUG ?= 1

# Missing Debian packages are installed before anything else happens; DEPS=0 leaves that out.
ifneq ($(DEPS),0)
ifneq ($(filter-out help clean,$(GOALS)),)
PURPOSES := $(if $(filter-out charts,$(GOALS)),build) $(if $(filter charts,$(GOALS)),charts) $(if $(filter run,$(GOALS)),run) $(if $(filter run-bochs,$(GOALS)),bochs) \
	$(if $(filter debug,$(GOALS)),run debug) $(if $(filter iso test soak,$(GOALS)),iso) $(if $(filter unit fuzz,$(GOALS)),test) \
	$(if $(filter test soak bench,$(GOALS)),run bochs test) $(if $(filter bench-memory,$(GOALS)),run iso plot test) \
	$(if $(filter bench-tables,$(GOALS)),test)
ifneq ($(shell tools/deps.sh $(PURPOSES) >&2 && echo installed),installed)
$(error packages are missing)
endif
endif
endif

# ---- sources -------------------------------------------------------------
LIB_C := cstring elf err format hash inih_shim lock log panic prng string timer work
MM_C := balloon blk clean dynmem frame frame_buddy frame_stock frame_verify gspace gspace_access gspace_back gspace_balloon gspace_clean gspace_flush gspace_large gspace_life gspace_move gspace_sample gspace_touch gspace_verify gspace_zip lot policy pool pt reclaim reclaim_cause reclaim_take reclaim_targets rmap share swap swap_in swap_out swap_slots wss zip zpool
ARCH_C := apic asid backtrace cpu desc fpu_quirk guest_walk hv hv_selftest hv_selftest_cases insn ioapic irq machine mitigate mitigate_cpu paging panic pic \
	platform power smp time tlb traps
ARCH_ASM := ap_start entry hv_selftest_guest thunk traps
VMX_C := caps ept exit fast run vmcs
VMX_ASM := enter
SVM_C := caps exit fast npt run vmcb
SVM_ASM := enter
DRIVERS_C := acpi acpi_init com2 uart ata ata_port drivers gpt gpt_scan nvme_ctrl nvme_ident nvme_io nvme_pci nvme_queue pci ramdisk screen selftest textscreen
OPERATOR_C := cmd_demand cmd_worst alerts cmd_events cmd_history cmd_host cmd_mem cmd_screen cmd_tiers cmd_vm cmd_whatif cmd_why cmd_zip command config config_keys events figures history json ledger line metrics monitor numbers pager pairs settings top
VMM_C := $(OPERATOR_C) config_load console cpuid exit hypercall memory modules overhead pvdisk run sched stream vcpu vcpu_smp vm vm_contract vm_life vmm
BOOT_C := main memmap memory options selftest
# The UEFI loader, and what it shares with the hypervisor.
EFI_C := boot/efi/main boot/efi/files boot/efi/firmware boot/efi/handoff boot/efi/image boot/efi/say \
	boot/entropy boot/memmap boot/options boot/place boot/say lib/cstring lib/elf lib/format lib/string
# The multiboot2 loader, and what it shares with the hypervisor.
MB2_C := $(addprefix boot/multiboot2/,main mb1 say tags) boot/entropy boot/memmap boot/options boot/place boot/say \
	lib/cstring lib/elf lib/format lib/string
MB2_ASM := boot/multiboot2/entry
# The guest: what knows the processor, and what is also built for the host.
GUEST_C := kernel/cpu kernel/machine kernel/measure kernel/misbehave
GUEST_ASM := kernel/entry
GUEST_PORTABLE_C := $(addprefix kernel/,args balloon cache clock command console disk events grow hint kernel pager ptab ram smp) \
	$(addprefix apps/,abi apps bench content crash db file idle region stream tide verify)
GUEST_LIB_C := format hash prng string

# Built for the host as well: everything that knows no register.
HOST_C := $(addprefix lib/,$(filter-out cstring inih_shim,$(LIB_C))) $(addprefix mm/,$(MM_C)) \
	$(addprefix drivers/,acpi ata gpt gpt_scan nvme_ctrl nvme_ident nvme_io nvme_queue ramdisk textscreen) boot/memmap boot/options boot/place \
	boot/multiboot2/mb1 boot/multiboot2/tags $(addprefix arch/x86/,asid guest_walk insn machine mitigate tlb)
# Each is tests/unit/test_NAME.c, linked with all of HOST_C and the fakes.
UNIT_TESTS := dynmem elf acpi boot ramdisk multiboot1 multiboot2 textscreen cstring lib policy wss swap swap_faults balloon reclaim reclaim_targets squeeze guest_ram guest_pager guest_system line config config_bad command monitor screen why ata gpt nvme frame pt rmap gspace gspace_touch gspace_move gspace_large gspace_model share share_steps zpool zip clean asid tlb page_walk insn mitigate \
	sched pvdisk vm vm_memory hypercall hypercall_memory
UNIT_FAKES := fake_platform fake_mm fake_format fake_blk fake_nvme fake_ata sim_guest
# Each is tests/fuzz/fuzz_NAME.c
FUZZERS := elf acpi multiboot2 textscreen line config command gpt hypercall

# ---- flags ---------------------------------------------------------------
WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef -Wno-sign-compare
CSTD := -std=gnu11 -I. -MMD -MP -g
ifeq ($(DEBUG),1)
DEFS := -DDEBUG
endif
HV_CFLAGS := $(CSTD) $(WARN) $(DEFS) -O2 -ffreestanding -fno-pic -mcmodel=kernel -mno-red-zone \
	-mgeneral-regs-only -fno-stack-protector -fno-omit-frame-pointer -fno-asynchronous-unwind-tables \
	-fcf-protection=none -fno-strict-aliasing -fno-common -ffunction-sections -fdata-sections
HOST_CFLAGS := $(CSTD) $(WARN) -DDEBUG -DHOST_TEST -O1 -fno-omit-frame-pointer -fno-strict-aliasing \
	-fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_CFLAGS := $(CSTD) -Wall -DDEBUG -DHOST_TEST -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
# The hypervisor's own: its indirect branches go through arch/x86/thunk.asm.
HV_THUNKS := -mindirect-branch=thunk-extern -mindirect-branch-register -fno-jump-tables
IMAGE_BASE := 0xffffffff80000000
HV_LDFLAGS := -nostdlib -static -z max-page-size=4096 -z noexecstack --no-warn-rwx-segments --gc-sections
# Static libraries that the hypervisor is linked with.
LZ4_LIB := /usr/lib/x86_64-linux-gnu/liblz4.a
HV_LIBS := /usr/lib/x86_64-linux-gnu/libinih.a $(LZ4_LIB)
EFI_LIB := /usr/lib
EFI_CFLAGS := $(CSTD) $(WARN) -isystem /usr/include/efi -isystem /usr/include/efi/x86_64 -DGNU_EFI_USE_MS_ABI -O2 \
	-ffreestanding -fpic -fvisibility=hidden -fshort-wchar -mno-red-zone -mgeneral-regs-only -maccumulate-outgoing-args \
	-fno-stack-protector -fno-strict-aliasing -fcf-protection=none -fno-asynchronous-unwind-tables
EFI_LDFLAGS := -nostdlib -shared -Bsymbolic -znocombreloc --no-warn-rwx-segments -T $(EFI_LIB)/elf_x86_64_efi.lds
NASMFLAGS := -f elf64 -g -F dwarf -w+all -I./

HV_C := $(addprefix lib/,$(LIB_C)) $(addprefix mm/,$(MM_C)) $(addprefix arch/x86/,$(ARCH_C)) \
	$(addprefix arch/x86/vmx/,$(VMX_C)) $(addprefix arch/x86/svm/,$(SVM_C)) $(addprefix drivers/,$(DRIVERS_C)) \
	$(addprefix vmm/,$(VMM_C)) $(addprefix boot/,$(BOOT_C))
HV_ASM := $(addprefix arch/x86/,$(ARCH_ASM)) $(addprefix arch/x86/vmx/,$(VMX_ASM)) $(addprefix arch/x86/svm/,$(SVM_ASM))
HV_OBJ := $(HV_C:%=$(B)/hv/%.o) $(HV_ASM:%=$(B)/hv/%.asm.o) $(B)/hv/font.o
HOST_OBJ := $(HOST_C:%=$(B)/host/%.o) $(UNIT_FAKES:%=$(B)/host/tests/unit/%.o)

.PHONY: all help clean unit fuzz test soak run run-bochs charts debug image iso FORCE bench bench-memory bench-tables
all: ## everything that goes on the boot volume

help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20
	@echo 'With run and debug: MEM=$(MEM) (MiB) CPUS=$(CPUS) CONFIG=$(CONFIG)'
	@echo 'With all: V=1 shows the commands; DEPS=0 installs nothing; DEBUG=0 B=build/fast'
	@echo 'builds without debug checks, in a folder of its own; -jN: so many jobs at once'

# V=1 shows the commands.
Q := $(if $(V),,@)
say = @$(if $(V),:,printf '  %-8s%s\n' $(1) $@)

# ---- hypervisor ----------------------------------------------------------
$(B)/hv/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(HV_CFLAGS) $(HV_THUNKS) -c $< -o $@
$(B)/hv/%.asm.o: %.asm $(B)/flags
	@mkdir -p $(@D)
	$(call say,NASM)
	$(Q)$(NASM) $(NASMFLAGS) -MD $(@:.o=.d) $< -o $@

# The screen's font comes from a Debian package.
FONT := /usr/share/consolefonts/spleen-8x16.psfu.gz
$(B)/hv/font.c: $(FONT) tools/mkfont.py
	@mkdir -p $(@D)
	tools/mkfont.py $< > $@
$(B)/hv/font.o: $(B)/hv/font.c
	$(call say,CC)
	$(Q)$(CC) $(HV_CFLAGS) -c $< -o $@

# Linked twice: the first image names the functions for the symbol table in the second.
$(B)/hv/ksyms0.c: tools/ksyms.py
	@mkdir -p $(@D)
	tools/ksyms.py 0 < /dev/null > $@
$(B)/hv/ksyms1.c: $(B)/hv/pass1.elf tools/ksyms.py
	$(NM) -n $< | tools/ksyms.py $(IMAGE_BASE) > $@
$(B)/hv/ksyms%.o: $(B)/hv/ksyms%.c
	$(call say,CC)
	$(Q)$(CC) $(HV_CFLAGS) -c $< -o $@
# Without debug checks the C parts are compiled as one, so that small functions of one part are inlined in another.
$(B)/hv/whole.o: $(HV_C:%=$(B)/hv/%.o)
	$(call say,LTO)
	$(Q)$(CC) $(HV_CFLAGS) $(HV_THUNKS) -nostdlib -r -flinker-output=nolto-rel $^ -o $@
ifeq ($(DEBUG),1)
HV_LINKED := $(HV_OBJ)
else
HV_CFLAGS += -flto -fno-fat-lto-objects
HV_LINKED := $(B)/hv/whole.o $(HV_ASM:%=$(B)/hv/%.asm.o) $(B)/hv/font.o
endif
$(B)/hv/ksyms0.o $(B)/hv/ksyms1.o $(B)/hv/font.o: HV_CFLAGS += -fno-lto
# Change when the flags do (DEBUG=0, say), so that everything is compiled with the same. Taken here: of targets' own flags they know nothing.
FLAGS := $(CC) $(HV_CFLAGS) $(HV_THUNKS) $(EFI_CFLAGS) $(NASMFLAGS)
FLAGS_HOST := $(CC) $(HOST_CFLAGS) $(CLANG) $(FUZZ_CFLAGS)
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(FLAGS)' | cmp -s - $@ || echo '$(FLAGS)' > $@
$(B)/flags-host: FORCE
	@mkdir -p $(@D)
	@echo '$(FLAGS_HOST)' | cmp -s - $@ || echo '$(FLAGS_HOST)' > $@
$(B)/hv/pass1.elf: linker.ld $(HV_LINKED) $(HV_LIBS) $(B)/hv/ksyms0.o
	$(call say,LD)
	$(Q)$(LD) $(HV_LDFLAGS) -T linker.ld $(filter %.o,$^) $(HV_LIBS) -o $@
$(B)/aerostat.elf: linker.ld $(HV_LINKED) $(HV_LIBS) $(B)/hv/ksyms1.o
	$(call say,LD)
	$(Q)$(LD) $(HV_LDFLAGS) -T linker.ld $(filter %.o,$^) $(HV_LIBS) -o $@

# ---- guest ---------------------------------------------------------------
GUEST_CFLAGS := $(filter-out -mcmodel=kernel -flto -fno-fat-lto-objects,$(HV_CFLAGS))
GUEST_SRC := $(addprefix guest/,$(GUEST_C) $(GUEST_PORTABLE_C)) $(addprefix lib/,cstring $(GUEST_LIB_C))
GUEST_OBJ := $(GUEST_SRC:%=$(B)/guestobj/%.o) $(GUEST_ASM:%=$(B)/guestobj/guest/%.asm.o)

$(B)/guestobj/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(GUEST_CFLAGS) -c $< -o $@
$(B)/guestobj/%.asm.o: %.asm $(B)/flags
	@mkdir -p $(@D)
	$(call say,NASM)
	$(Q)$(NASM) $(NASMFLAGS) -MD $(@:.o=.d) $< -o $@
$(B)/guest.elf: guest/guest.ld $(GUEST_OBJ)
	$(call say,LD)
	$(Q)$(LD) -nostdlib -static -z max-page-size=4096 -z noexecstack --gc-sections -T guest/guest.ld $(GUEST_OBJ) -o $@

# A guest of one file, which shares nothing with the other but the contract's header.
EXAMPLE_CFLAGS := $(GUEST_CFLAGS) -fno-tree-loop-distribute-patterns
$(B)/guestobj/guest/example/%.o: guest/example/%.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(EXAMPLE_CFLAGS) -c $< -o $@
$(B)/example.elf: $(B)/guestobj/guest/example/entry.asm.o $(B)/guestobj/guest/example/example.o
	$(call say,LD)
	$(Q)$(LD) -nostdlib -static -z max-page-size=4096 -z noexecstack -Ttext-segment=0x100000 $^ -o $@

# ---- UEFI loader ---------------------------------------------------------
$(B)/efi/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(EFI_CFLAGS) -c $< -o $@
$(B)/efi/loader.so: $(EFI_C:%=$(B)/efi/%.o)
	$(call say,LD)
	$(Q)$(LD) $(EFI_LDFLAGS) $(EFI_LIB)/crt0-efi-x86_64.o $^ -L$(EFI_LIB) -lgnuefi -o $@
$(B)/BOOTX64.EFI: $(B)/efi/loader.so
	$(call say,OBJCOPY)
	$(Q)$(OBJCOPY) -j .text -j .sdata -j .data -j .dynamic -j .dynsym -j .rel -j .rela -j '.rel.*' -j '.rela.*' -j .reloc \
	  --target efi-app-x86_64 --subsystem=10 $< $@

# ---- multiboot2 loader ---------------------------------------------------
MB2_OBJ := $(MB2_ASM:%=$(B)/hv/%.asm.o) $(MB2_C:%=$(B)/loader/%.o) $(B)/hv/font.o
$(B)/loader/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(filter-out -flto -fno-fat-lto-objects,$(HV_CFLAGS)) -c $< -o $@
$(B)/loader.elf: boot/multiboot2/loader.ld $(MB2_OBJ)
	$(call say,LD)
	$(Q)$(LD) $(HV_LDFLAGS) -s -T boot/multiboot2/loader.ld $(MB2_OBJ) -o $@

# ---- boot volume and emulators -------------------------------------------
# Memory of `make run` in MiB, its CPUs, and more options for QEMU.
MEM ?= 512
CPUS ?= 1
QEMU_OPTIONS ?=
CONFIG ?= boot/aerostat.ini
GUEST_IMAGES := $(B)/guest.elf $(B)/example.elf
VOLUME_FILES := $(B)/BOOTX64.EFI $(CONFIG) $(B)/volume/aerostat.elf $(GUEST_IMAGES)
VOLUME_ARGS = --file $(B)/BOOTX64.EFI=EFI/BOOT/BOOTX64.EFI --file $(CONFIG)=aerostat/aerostat.ini \
	--file $(B)/volume/aerostat.elf=aerostat/aerostat.elf \
	$(foreach f,$(GUEST_IMAGES),--file $(f)=aerostat/$(notdir $(f)))
DISK_PARTS := --part swap:1G --part data:1G

all: $(VOLUME_FILES)

$(B)/volume/aerostat.elf: $(B)/aerostat.elf
	@mkdir -p $(@D)
	$(call say,OBJCOPY)
	$(Q)$(OBJCOPY) --strip-debug $< $@
$(B)/boot.img: $(VOLUME_FILES) $(B)/media tools/mkimage.py
	$(call say,IMAGE)
	$(Q)tools/mkimage.py $@ $(VOLUME_ARGS)
# The second disk of `make run` keeps what is on it; the one for Bochs has everything on it.
$(B)/data.img: tools/mkimage.py
	@mkdir -p $(@D)
	$(call say,IMAGE)
	$(Q)tools/mkimage.py $@ --esp 0 $(DISK_PARTS)
$(B)/bochs.img: CONFIG := boot/aerostat-bochs.ini
$(B)/bochs.img: $(VOLUME_FILES) boot/aerostat-bochs.ini $(B)/media-bochs tools/mkimage.py
	$(call say,IMAGE)
	$(Q)tools/mkimage.py $@ $(VOLUME_ARGS) $(DISK_PARTS)

# What goes on a USB stick: IMAGE_PARTS="--part swap:4G --part data:4G" adds partitions of Aerostat's own.
IMAGE_PARTS ?=
# Changes when what was asked for does, so that the next image is a new one.
$(B)/media $(B)/media-bochs: FORCE
	@mkdir -p $(@D)
	@echo '$(CONFIG) $(GUEST_IMAGES) $(IMAGE_PARTS)' | cmp -s - $@ || echo '$(CONFIG) $(GUEST_IMAGES) $(IMAGE_PARTS)' > $@
FORCE:
$(B)/aerostat.img: $(VOLUME_FILES) $(B)/media tools/mkimage.py
	$(call say,IMAGE)
	$(Q)tools/mkimage.py $@ $(VOLUME_ARGS) $(IMAGE_PARTS)
image: $(B)/aerostat.img ## build/aerostat.img, a disk image for a USB stick; UEFI
	@echo "$<: write it with: dd if=$< of=/dev/STICK bs=4M conv=fsync"

# test.iso is the same with a menu that waits long enough for any test.
MENU_SECONDS := 5
$(B)/test.iso: MENU_SECONDS := 300
$(B)/%.iso: $(VOLUME_FILES) $(B)/media $(B)/loader.elf boot/multiboot2/grub.cfg
	rm -rf $(B)/iso-$*
	mkdir -p $(B)/iso-$*/boot/grub $(B)/iso-$*/aerostat
	sed 's/^set timeout=.*/set timeout=$(MENU_SECONDS)/' boot/multiboot2/grub.cfg > $(B)/iso-$*/boot/grub/grub.cfg
	cp $(B)/loader.elf $(B)/volume/aerostat.elf $(B)/iso-$*/boot/
	cp $(CONFIG) $(B)/iso-$*/aerostat/aerostat.ini
	cp $(GUEST_IMAGES) $(B)/iso-$*/aerostat/
	grub-mkrescue --fonts= --locales= --themes= -o $@ $(B)/iso-$* -- -volid AEROSTAT > $(B)/mkrescue-$*.log 2>&1 || \
	  { cat $(B)/mkrescue-$*.log; exit 1; }
iso: $(B)/aerostat.iso ## build/aerostat.iso, for CD, stick or BMC; UEFI and BIOS
	@echo "$<: burn it, or write it to a stick with: dd if=$< of=/dev/STICK bs=4M conv=fsync"

# COM2 is a socket, for `make charts` in another terminal.
run: $(B)/boot.img $(B)/data.img ## Aerostat in QEMU (OVMF, NVMe); the terminal is its console
	tools/emu.py qemu --disk $(B)/boot.img --disk $(B)/data.img --mem $(MEM) --cpus $(CPUS) --work $(B)/emu \
	  -- -serial unix:$(B)/com2.sock,server=on,wait=off $(QEMU_OPTIONS)

charts: ## live charts of a running `make run`: http://127.0.0.1:9188/
	tools/bridge.py unix:$(B)/com2.sock

run-bochs: MEM := 192
run-bochs: $(B)/bochs.img ## `make run` in Bochs: VT-x and EPT, ATA disk
	tools/emu.py bochs --disk $(B)/bochs.img --mem $(MEM) --work $(B)/emu-bochs

# Job control gives gdb the terminal's Ctrl-C for itself.
debug: $(B)/boot.img $(B)/data.img $(B)/aerostat.elf ## QEMU stopped at start, gdb with symbols attached
	@set -m; tools/emu.py qemu --disk $(B)/boot.img --disk $(B)/data.img --mem $(MEM) --cpus $(CPUS) --work $(B)/emu \
	  --serial file:$(B)/debug-serial.txt --gdb < /dev/null & pid=$$!; \
	echo "serial line: $(B)/debug-serial.txt"; gdb -q -x tools/debug.gdb $(B)/aerostat.elf; kill $$pid

# ---- host unit tests -----------------------------------------------------
$(B)/host/%.o: %.c $(B)/flags-host
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(HOST_CFLAGS) -c $< -o $@
$(B)/unit/%: $(B)/host/tests/unit/%.o $(HOST_OBJ)
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(HOST_CFLAGS) $^ -lcmocka $(LZ4_LIB) $(HOST_LIBS) -o $@
# Tests of address spaces share what they do with pages.
SPACE_TESTS := gspace gspace_touch gspace_move gspace_large share share_steps clean
$(SPACE_TESTS:%=$(B)/unit/test_%): $(B)/host/tests/unit/space_test.o
$(addprefix $(B)/unit/test_,swap swap_faults): $(B)/host/tests/unit/swap_test.o
$(addprefix $(B)/unit/test_,share share_steps): $(B)/host/tests/unit/share_test.o
$(addprefix $(B)/unit/test_,reclaim reclaim_targets): $(B)/host/tests/unit/reclaim_test.o
# And the machine they run on.
MM_TESTS := $(SPACE_TESTS) swap swap_faults gspace_model dynmem squeeze reclaim reclaim_targets zip balloon
$(MM_TESTS:%=$(B)/unit/test_%): $(B)/host/tests/unit/mm_test.o
$(addprefix $(B)/unit/test_,multiboot1 multiboot2): $(B)/host/tests/unit/multiboot_test.o
# Refuses frames at any point.
$(B)/unit/test_gspace_large: HOST_LIBS := -Wl,--wrap=frame_alloc,--wrap=frame_alloc_whole
# The console's: its commands, over VMs without processors.
OPERATOR_TESTS := line config config_bad command monitor screen why
$(OPERATOR_TESTS:%=$(B)/unit/test_%): HOST_LIBS := -linih
$(OPERATOR_TESTS:%=$(B)/unit/test_%): $(OPERATOR_C:%=$(B)/host/vmm/%.o) $(B)/host/tests/unit/fake_vm.o
# The VMM's: virtual machines, with a fake processor to run them.
VM_TESTS := hypercall hypercall_memory pvdisk vm vm_memory sched
WRAP_ALLOC := -Wl,--wrap=frame_alloc,--wrap=frame_alloc_guest,--wrap=frame_alloc_whole
VM_C := cpuid exit hypercall memory modules numbers overhead pvdisk run sched settings vcpu vcpu_smp vm vm_contract vm_life
$(VM_TESTS:%=$(B)/unit/test_%): HOST_LIBS := $(WRAP_ALLOC)
$(VM_TESTS:%=$(B)/unit/test_%): $(VM_C:%=$(B)/host/vmm/%.o) $(B)/host/tests/unit/fake_hv.o $(B)/host/tests/unit/vm_test.o
$(addprefix $(B)/unit/test_,hypercall hypercall_memory): $(B)/host/tests/unit/call_test.o
# The guest's are linked with the guest instead, over a hypervisor of their own.
GUEST_HOST_OBJ := $(GUEST_PORTABLE_C:%=$(B)/host/guest/%.o) $(GUEST_LIB_C:%=$(B)/host/lib/%.o) $(B)/host/tests/unit/fake_hv_guest.o
$(patsubst %,$(B)/unit/test_%,$(filter guest_%,$(UNIT_TESTS))): $(B)/unit/test_%: $(B)/host/tests/unit/test_%.o $(GUEST_HOST_OBJ)
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(HOST_CFLAGS) $^ -lcmocka -o $@
.PRECIOUS: $(B)/host/%.o $(B)/fuzzobj/%.o

unit: $(UNIT_TESTS:%=$(B)/unit/test_%) ## host unit tests under ASan and UBSan
	@for t in $^; do echo "== $$t"; $$t || exit 1; done
	/usr/bin/python3 -m pytest -q -p no:cacheprovider tests/unit

# ---- fuzzers -------------------------------------------------------------
$(B)/fuzzobj/%.o: %.c $(B)/flags-host
	@mkdir -p $(@D)
	$(call say,CLANG)
	$(Q)$(CLANG) $(FUZZ_CFLAGS) -c $< -o $@
$(B)/fuzz/%: $(B)/fuzzobj/tests/fuzz/%.o $(HOST_C:%=$(B)/fuzzobj/%.o) $(UNIT_FAKES:%=$(B)/fuzzobj/tests/unit/%.o)
	@mkdir -p $(@D)
	$(call say,CLANG)
	$(Q)$(CLANG) $(FUZZ_CFLAGS) -fsanitize=fuzzer $^ $(LZ4_LIB) $(HOST_LIBS) -o $@
$(OPERATOR_TESTS:%=$(B)/fuzz/fuzz_%): HOST_LIBS := -linih
$(OPERATOR_TESTS:%=$(B)/fuzz/fuzz_%): $(OPERATOR_C:%=$(B)/fuzzobj/vmm/%.o) $(B)/fuzzobj/tests/unit/fake_vm.o
$(VM_TESTS:%=$(B)/fuzz/fuzz_%): HOST_LIBS := $(WRAP_ALLOC)
$(VM_TESTS:%=$(B)/fuzz/fuzz_%): $(VM_C:%=$(B)/fuzzobj/vmm/%.o) $(B)/fuzzobj/tests/unit/fake_hv.o
# No parsers: following each comparison would only take half the time.
$(addprefix $(B)/fuzzobj/,$(VM_C:%=vmm/%.o) $(MM_C:%=mm/%.o) $(addprefix lib/,hash.o lock.o log.o prng.o timer.o work.o) \
	tests/unit/fake_blk.o tests/unit/fake_format.o tests/unit/fake_hv.o tests/unit/fake_mm.o tests/unit/fake_platform.o): \
	FUZZ_CFLAGS += -fno-sanitize-coverage=trace-cmp

fuzz: $(FUZZERS:%=$(B)/fuzz/fuzz_%) ## a short run of every fuzzer
	@for f in $^; do echo "== $$f"; mkdir -p $(B)/corpus/$$(basename $$f); \
	  $$f -max_total_time=$${FUZZ_SECONDS:-10} -print_final_stats=0 -verbosity=0 $(B)/corpus/$$(basename $$f) || exit 1; done

test: all $(B)/aerostat.iso $(B)/test.iso $(UNIT_TESTS:%=$(B)/unit/test_%) $(FUZZERS:%=$(B)/fuzz/fuzz_%) ## tree, unit, fuzz, end to end in QEMU and Bochs; 20 minutes
	AEROSTAT_BUILD=$(abspath $(B)) /usr/bin/python3 tests/run.py "$(UNIT_TESTS:%=$(B)/unit/test_%)" "$(FUZZERS:%=$(B)/fuzz/fuzz_%)"

# Measured is the hypervisor without debug checks, in a build of its own. BENCH: which parts.
COMPARE ?=
BENCH ?= qemu,off,memory,bochs,growth
bench: ## what the paths cost, in instructions; COMPARE=FILE: changes
	$(Q)$(MAKE) --no-print-directory B=$(B)/bench DEBUG=0 all
	$(Q)AEROSTAT_BUILD=$(abspath $(B)/bench) /usr/bin/python3 tests/bench/bench.py $(B)/bench --where $(BENCH) \
	  $(if $(COMPARE),--compare $(COMPARE))

# EXPERIMENTS: some of them alone (trips,scan,zip,a,b,c,d,e,f,g); RESUME=1: only those without a result; SEED: other random numbers.
EXPERIMENTS ?=
RESUME ?=
SEED ?= 1
bench-memory: ## memory experiments: tables, plots; ten minutes on two processors
	$(Q)$(MAKE) --no-print-directory B=$(B)/bench DEBUG=0 all $(B)/bench/loader.elf
	$(Q)AEROSTAT_BUILD=$(abspath $(B)/bench) /usr/bin/python3 tests/bench/memory.py $(B)/bench \
	  $(if $(EXPERIMENTS),--only $(EXPERIMENTS)) $(if $(RESUME),--resume) --seed $(SEED)

bench-tables: ## docs/BENCHMARKS.md: its tables from what make bench and make bench-memory have measured
	/usr/bin/python3 tests/bench/tables.py $(B)/bench --write docs/BENCHMARKS.md

soak: all $(B)/aerostat.iso $(B)/test.iso ## the long runs in QEMU and Bochs; an hour and more
	AEROSTAT_BUILD=$(abspath $(B)) /usr/bin/python3 -m pytest -m soak -s tests/e2e

clean: ## removes build/
	rm -rf $(B)

-include $(shell find $(B) -name '*.d' 2>/dev/null)
