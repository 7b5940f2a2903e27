/* Shared by the files of vmm/ that make up a VM. */
#ifndef VMM_VM_INTERNAL_H
#define VMM_VM_INTERNAL_H

#include "vmm/pvdisk.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

#define VM_SHARES_MAX     1000000U
#define VM_SHARES_PER_MIB 10U /* ESX "normal" */

/* Formats why and returns err. */
int vm_fail(char *why, size_t size, int err, const char *fmt, ...) printf_like(4, 5);

void vm_contract_init(struct vm *vm);
void vm_detach_info(struct vm *vm); /* no vCPU runs */
void vm_life_init(struct vm *vm);

u32 vm_limit_pages(const struct vm_config *c);      /* in pages; no limit: the most that it may have */
struct dynmem vm_dynmem(const struct vm_config *c); /* at the start */
u32 vm_swap_need(u64 memory_bytes, u64 reservation_bytes);
/* Can this much more be backed? Frames and slots; why has the numbers. */
int vm_admit(u64 reservation_pages, u64 overhead, u64 swap_pages, char *why, size_t size) must_check;

#endif
