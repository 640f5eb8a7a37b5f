/*
 * PVM quirks. PVM runs ring 3 natively and ring 0 in the kernel's instruction emulator, so a feature is usable by a kernel
 * only if that emulator knows its instructions. Some that it does not know are completed in user space (emulate.c); those
 * below come too often, or change too much state, and are hidden instead. Found by booting Linux 6.1.
 */
#include "kvm-glue/x86-pvm.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>

#include "memd/base/cleanup.h"

/* Linux' numbers (arch/x86/include/asm/cpufeatures.h): word * 32 + bit; `clearcpuid=` takes them (names overflow its buffer). */
#define FEATURE(word, bit) ((word)*32 + (bit))

static const uint16_t hidden_features[] = {
	FEATURE(9, 20), /* smap: clac and stac at each access to user memory */
	FEATURE(9, 7), /* smep */
	FEATURE(16, 2), /* umip */
	FEATURE(4, 13), /* cx16: cmpxchg16b in the slab allocator */
	FEATURE(9, 0), /* fsgsbase */
	FEATURE(4, 23), /* popcnt */
	FEATURE(4, 26), /* xsave */
	FEATURE(4, 27), /* osxsave */
	FEATURE(3, 16), /* rep_good: Linux' own word, no CPUID bit */
	FEATURE(9, 9), /* erms */
	FEATURE(9, 10), /* invpcid */
	FEATURE(18, 4), /* fsrm */
	FEATURE(4, 22), /* movbe */
	FEATURE(4, 17), /* pcid */
	FEATURE(4, 30), /* rdrand */
	FEATURE(9, 18), /* rdseed */
	FEATURE(9, 3), /* bmi1 */
	FEATURE(9, 8), /* bmi2 */
	FEATURE(9, 15), /* rdt_a */
	FEATURE(9, 23), /* clflushopt */
	FEATURE(9, 24), /* clwb */
	FEATURE(4, 9), /* ssse3: SSE in ring 0 crypto code, as the next four */
	FEATURE(4, 19), /* sse4_1 */
	FEATURE(4, 20), /* sse4_2 */
	FEATURE(4, 25), /* aes */
	FEATURE(4, 1), /* pclmulqdq */
};

/* The register of the CPUID entry that holds this word of features; NULL when the entry is another one. */
static uint32_t *feature_word(struct kvm_cpuid_entry2 *entry, unsigned word)
{
	switch (word) {
	case 4:
		return entry->function == 1 ? &entry->ecx : NULL;
	case 9:
		return entry->function == 7 && entry->index == 0 ? &entry->ebx : NULL;
	case 16:
		return entry->function == 7 && entry->index == 0 ? &entry->ecx : NULL;
	case 18:
		return entry->function == 7 && entry->index == 0 ? &entry->edx : NULL;
	default:
		return NULL;
	}
}

/*
 * Paravirtual features that use hypercalls: `vmcall` is not executed here but "repaired" by KVM and tried again, for ever.
 * Seen with two vCPUs, at the first interrupt that one sends the other.
 */
static void hide_hypercalls(struct kvm_cpuid_entry2 *entry)
{
	static const uint32_t hypercalls = 1u << KVM_FEATURE_MMU_OP | 1u << KVM_FEATURE_PV_UNHALT |
					   1u << KVM_FEATURE_PV_SEND_IPI |
					   1u << KVM_FEATURE_PV_SCHED_YIELD;

	if (entry->function == KVM_CPUID_FEATURES)
		entry->eax &= ~hypercalls;
}

void x86_pvm_filter_cpuid(struct kvm_cpuid2 *cpuid)
{
	for (unsigned i = 0; i < cpuid->nent; i++) {
		hide_hypercalls(&cpuid->entries[i]);
		for (size_t f = 0; f < ARRAY_SIZE(hidden_features); f++) {
			uint32_t *word = feature_word(&cpuid->entries[i], hidden_features[f] / 32u);

			if (word)
				*word &= ~(UINT32_C(1) << hidden_features[f] % 32u);
		}
	}
}

int x86_pvm_linux_parameters(char *ret, size_t size)
{
	/* lpj: the calibration loop would take seconds in the emulator; mitigations guard hardware that ring 0 does not run on. */
	int n = snprintf(ret, size,
		"noxsave nopcid nopku mitigations=off nokaslr tsc=reliable lpj=10400000 "
		"clearcpuid=");

	for (size_t i = 0; i < ARRAY_SIZE(hidden_features); i++) {
		if (n < 0 || (size_t)n >= size)
			return -ENOSPC;
		n += snprintf(ret + n, size - (size_t)n, "%s%u", i > 0 ? "," : "",
			(unsigned)hidden_features[i]);
	}
	return n < 0 || (size_t)n >= size ? -ENOSPC : 0;
}
