/* Bits of a guest's registers that both vendor back ends deal with, beyond those of asm.h. Names are the manuals'. */
#ifndef ARCH_X86_X86_BITS_H
#define ARCH_X86_X86_BITS_H

#include "arch/x86/asm.h"

#define CR0_PE                BIT(0)
#define CR0_ET                BIT(4)
#define CR0_AM                BIT(18)
#define CR0_PG                BIT(31)

#define CR4_VME               BIT(0)
#define CR4_PVI               BIT(1)
#define CR4_TSD               BIT(2)
#define CR4_DE                BIT(3)
#define CR4_PSE               BIT(4)
#define CR4_PCE               BIT(8)
#define CR4_FSGSBASE          BIT(16)

#define EFER_LMA              BIT(10)
#define EFER_SVME             BIT(12)

#define RFLAGS_FIXED          BIT(1)
#define RFLAGS_TF             BIT(8)
#define RFLAGS_RF             BIT(16)

#define DR6_INIT              0xffff0ff0UL
#define DR6_BS                BIT(14)
#define DR7_INIT              0x400UL
#define DR7_GD                BIT(13)

#define VECTOR_DB             1
#define VECTOR_NMI            2
#define VECTOR_GP             13
#define VECTOR_AC             17
#define VECTOR_MC             18

#define MSR_IA32_SYSENTER_CS  0x174U
#define MSR_IA32_SYSENTER_ESP 0x175U
#define MSR_IA32_SYSENTER_EIP 0x176U
#define MSR_STAR              0xc0000081U
#define MSR_LSTAR             0xc0000082U
#define MSR_CSTAR             0xc0000083U
#define MSR_SFMASK            0xc0000084U

#define PAT_RESET             0x0007040600070406UL

#endif
