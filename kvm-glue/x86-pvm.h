/*
 * What is special about hosts whose KVM is the PVM back end: all of that knowledge is here. On VMX and SVM nothing of this
 * applies.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kvm_cpuid2;

/* Takes the features out of a CPUID table whose instructions the kernel's emulator refuses in ring 0. */
void x86_pvm_filter_cpuid(struct kvm_cpuid2 *cpuid);

/*
 * Writes what a Linux guest must be told on its command line: hiding a feature in CPUID is not enough, since the guest's
 * own CPUID instruction can see the host's bits. -ENOSPC.
 */
int x86_pvm_linux_parameters(char *ret, size_t size);
