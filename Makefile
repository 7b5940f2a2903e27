# Aerostat: one non-recursive Makefile. `make help` lists the targets.
#
# Sources are listed by part. The hypervisor is built without SSE, red zone or
# PIC; the same lib/ and mm/ (and vmm's parsers) are built again for the host
# under ASan and UBSan for unit tests and fuzzers.

.DEFAULT_GOAL := all
.SUFFIXES:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

B := build
CC := gcc
CLANG := clang
LD := ld
NASM := nasm
OBJCOPY := objcopy
# DEBUG=0 builds without DCHECK and poison.
DEBUG ?= 1

# ---- sources -------------------------------------------------------------
LIB_C := cstring elf err format hash lock log panic prng string timer work
MM_C := balloon blk frame gspace policy pt reclaim rmap share swap swap_slots
ARCH_C :=
ARCH_ASM :=
VMX_C :=
VMX_ASM :=
SVM_C :=
SVM_ASM :=
DRIVERS_C :=
VMM_C := cpuid exit hypercall modules pvdisk sched vcpu vm vm_contract vm_life
BOOT_C := main
GUEST_C :=
GUEST_ASM :=

# Built for the host as well: everything that knows no register.
HOST_C := $(addprefix lib/,$(filter-out cstring,$(LIB_C))) $(addprefix mm/,$(MM_C))
# Each is tests/unit/test_NAME.c, linked with all of HOST_C and the fakes.
UNIT_TESTS := cstring lib policy
UNIT_FAKES := fake_platform fake_mm
# Each is tests/fuzz/fuzz_NAME.c
FUZZERS :=

# ---- flags ---------------------------------------------------------------
WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef -Wno-sign-compare
CSTD := -std=gnu11 -I. -MMD -MP -g
ifeq ($(DEBUG),1)
DEFS := -DDEBUG
endif
HV_CFLAGS := $(CSTD) $(WARN) $(DEFS) -O2 -ffreestanding -fno-pic -mcmodel=kernel -mno-red-zone \
	-mgeneral-regs-only -fno-stack-protector -fno-omit-frame-pointer -fno-asynchronous-unwind-tables \
	-fcf-protection=none -fno-strict-aliasing -fno-common
HOST_CFLAGS := $(CSTD) $(WARN) -DDEBUG -DHOST_TEST -O1 -fno-omit-frame-pointer -fno-strict-aliasing \
	-fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_CFLAGS := $(CSTD) -Wall -DDEBUG -DHOST_TEST -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
NASMFLAGS := -f elf64 -g -F dwarf -w+all -I./

HV_C := $(addprefix lib/,$(LIB_C)) $(addprefix mm/,$(MM_C)) $(addprefix arch/x86/,$(ARCH_C)) \
	$(addprefix arch/x86/vmx/,$(VMX_C)) $(addprefix arch/x86/svm/,$(SVM_C)) $(addprefix drivers/,$(DRIVERS_C)) \
	$(addprefix vmm/,$(VMM_C)) $(addprefix boot/,$(BOOT_C))
HV_ASM := $(addprefix arch/x86/,$(ARCH_ASM)) $(addprefix arch/x86/vmx/,$(VMX_ASM)) $(addprefix arch/x86/svm/,$(SVM_ASM))
HV_OBJ := $(HV_C:%=$(B)/hv/%.o) $(HV_ASM:%=$(B)/hv/%.asm.o)
HOST_OBJ := $(HOST_C:%=$(B)/host/%.o) $(UNIT_FAKES:%=$(B)/host/tests/unit/%.o)

.PHONY: all help clean unit fuzz
all: ## everything that goes on the boot volume

help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

# ---- hypervisor ----------------------------------------------------------
$(B)/hv/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(HV_CFLAGS) -c $< -o $@
$(B)/hv/%.asm.o: %.asm
	@mkdir -p $(@D)
	$(NASM) $(NASMFLAGS) -MD $(@:.o=.d) $< -o $@

# ---- host unit tests -----------------------------------------------------
$(B)/host/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) -c $< -o $@
$(B)/unit/%: $(B)/host/tests/unit/%.o $(HOST_OBJ)
	@mkdir -p $(@D)
	$(CC) $(HOST_CFLAGS) $^ -lcmocka -o $@
.PRECIOUS: $(B)/host/%.o

unit: $(UNIT_TESTS:%=$(B)/unit/test_%) ## host unit tests under ASan and UBSan
	@for t in $^; do echo "== $$t"; $$t || exit 1; done

# ---- fuzzers -------------------------------------------------------------
$(B)/fuzzobj/%.o: %.c
	@mkdir -p $(@D)
	$(CLANG) $(FUZZ_CFLAGS) -c $< -o $@
$(B)/fuzz/%: $(B)/fuzzobj/tests/fuzz/%.o $(HOST_C:%=$(B)/fuzzobj/%.o) $(UNIT_FAKES:%=$(B)/fuzzobj/tests/unit/%.o)
	@mkdir -p $(@D)
	$(CLANG) $(FUZZ_CFLAGS) -fsanitize=fuzzer $^ -o $@

fuzz: $(FUZZERS:%=$(B)/fuzz/fuzz_%) ## a short run of every fuzzer
	@for f in $^; do echo "== $$f"; mkdir -p $(B)/corpus/$$(basename $$f); \
	  $$f -max_total_time=$${FUZZ_SECONDS:-10} -print_final_stats=0 -verbosity=0 $(B)/corpus/$$(basename $$f) || exit 1; done

clean: ## removes build/
	rm -rf $(B)

-include $(shell find $(B) -name '*.d' 2>/dev/null)
