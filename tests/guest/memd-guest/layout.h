/* Numbers that the assembly and the C of the guest share. Preprocessor only. */
#pragma once

/* Linux' own selectors: back ends without hardware assist run ring 3 natively with these. */
#define SEL_KERNEL_CODE 0x10
#define SEL_KERNEL_DATA 0x18
#define SEL_USER_DATA	0x2b
#define SEL_USER_CODE	0x33
#define SEL_TSS		0x40

#define AP_TRAMPOLINE 0x8000 /* below 1 MiB, page aligned: the SIPI vector is its page number */

#define VECTOR_UD	6
#define VECTOR_PF	14
#define VECTOR_TIMER	32
#define VECTOR_SPURIOUS 33 /* any number does on a local APIC of today */
#define N_VECTORS	34

#define VCPUS_MAX 64
