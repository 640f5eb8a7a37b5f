/*
 * Nanoseconds that never go back. Source: the KVM clock (pvclock ABI,
 * Documentation/virt/kvm/x86/msr.rst), page of the boot processor, read by all; where there is none
 * (TCG), the TSC as measured once against the PIT.
 */
#pragma once

#include <stdint.h>

/* Ring 0, once. */
void time_init(void);
/* Any CPU, ring 3. */
uint64_t time_ns(void);
