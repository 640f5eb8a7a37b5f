/* What an x86 guest sees of its CPUs: CPUID, and the registers it starts with. */
#pragma once

#include <stdint.h>

#include "kvm-glue/host.h"
#include "memd/base/error.h"

/* GDT selectors at the 64-bit entry: Linux' __BOOT_CS and __BOOT_DS (Documentation/x86/boot.rst). */
#define X86_BOOT_CS 0x10
#define X86_BOOT_DS 0x18

struct kvm_cpuid2;

/*
 * Gives a vCPU the features that KVM supports, less what the host's back end cannot do and what
 * `features` hides (x86-features.h), as core `index` of n_vcpus. *ret_cpuid, the caller's to free, is what was set: KVM_GET_CPUID2 may say
 * something else (PVM: the host's).
 */
int x86_cpuid_set(const struct host *host, int vcpu_fd, unsigned index, unsigned n_vcpus,
	const char *features, struct kvm_cpuid2 **ret_cpuid, struct error *e);

/*
 * Whether this host's KVM supports the features of a CPUID table. -EOPNOTSUPP: no, *e names the
 * first that it lacks.
 */
int x86_cpuid_check(const struct host *host, const struct kvm_cpuid2 *cpuid, struct error *e);

/*
 * Puts the first vCPU at a 64-bit entry: long mode, page tables at cr3_gpa, GDT at gdt_gpa (of gdt_bytes), RSI the boot
 * parameters. An errno of KVM.
 */
struct x86_entry64 {
	uint64_t entry_gpa;
	uint64_t parameters_gpa;
	uint64_t cr3_gpa;
	uint64_t gdt_gpa;
	uint16_t gdt_bytes;
};
int x86_regs_set_entry64(int vcpu_fd, const struct x86_entry64 *entry, struct error *e);

/* Puts the first vCPU at a PVH entry: 32-bit protected mode, no paging, EBX the start info (xen/include/public/arch-x86/hvm/start_info.h). */
int x86_regs_set_pvh(int vcpu_fd, uint32_t entry_gpa, uint32_t start_info_gpa, struct error *e);
