/* The CPUID of a vCPU: what KVM supports, with this vCPU's place in the topology (one package, n cores of one thread). */
#include "kvm-glue/x86.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm-glue/x86-features.h"
#include "kvm-glue/x86-pvm.h"
#include "memd/base/cleanup.h"

#define CPUID_ENTRIES_MAX   256
#define CPUID_ENTRIES_SPARE 2 /* a level for each of the two topology leaves */

#define LEAF1_ECX_HYPERVISOR   (1u << 31)
#define LEAF1_ECX_TSC_DEADLINE (1u << 24)
#define LEAF1_ECX_OSXSAVE      (1u << 27)
#define LEAF7_ECX_OSPKE	       (1u << 4)
#define LEAF1_EDX_HTT	       (1u << 28)
#define TOPOLOGY_SMT	       1u
#define TOPOLOGY_CORE	       2u

/* Bits that an APIC id of 0..n-1 takes. */
static unsigned id_bits(unsigned n)
{
	unsigned bits = 0;

	while (1u << bits < n)
		bits++;
	return bits;
}

/* Leaf 0xb (and 0x1f): level `index` of the topology (Intel SDM vol. 2, CPUID). */
static void set_topology_level(struct kvm_cpuid_entry2 *entry, unsigned apic_id, unsigned n)
{
	entry->edx = apic_id;
	entry->ecx = entry->index;
	switch (entry->index) {
	case 0:
		entry->eax = 0;
		entry->ebx = 1;
		entry->ecx |= TOPOLOGY_SMT << 8;
		break;
	case 1:
		entry->eax = id_bits(n);
		entry->ebx = n;
		entry->ecx |= TOPOLOGY_CORE << 8;
		break;
	default:
		entry->eax = 0;
		entry->ebx = 0;
	}
}

static void set_entry(struct kvm_cpuid_entry2 *entry, unsigned apic_id, unsigned n)
{
	switch (entry->function) {
	case 1:
		entry->ebx = (entry->ebx & 0xffff) | n << 16 | apic_id << 24;
		entry->ecx |= LEAF1_ECX_HYPERVISOR | LEAF1_ECX_TSC_DEADLINE;
		if (n > 1)
			entry->edx |= LEAF1_EDX_HTT;
		break;
	case 4: /* caches: cores in the package; threads that share each: left as the host's */
		entry->eax = (entry->eax & 0x03ffffff) | ((1u << id_bits(n)) - 1) << 26;
		break;
	case 0xb:
	case 0x1f:
		set_topology_level(entry, apic_id, n);
		break;
	case 0x80000008: /* AMD: cores, and bits of the APIC id that number them */
		entry->ecx = id_bits(n) << 12 | (n - 1);
		break;
	case 0x8000001e: /* AMD: extended APIC id, one thread a core */
		entry->eax = apic_id;
		entry->ebx = apic_id & 0xff;
		entry->ecx = 0;
		break;
	default:
		break;
	}
}

/* KVM offers the topology leaves without levels: adds level 1, cores, where level 0 is. There is room for it. */
static void add_core_levels(struct kvm_cpuid2 *cpuid)
{
	unsigned n = cpuid->nent;

	for (unsigned i = 0; i < n; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		if ((entry->function != 0xb && entry->function != 0x1f) || entry->index != 0)
			continue;
		entry->flags |= KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		if (i + 1 < n && cpuid->entries[i + 1].function == entry->function)
			continue;
		cpuid->entries[cpuid->nent++] = (struct kvm_cpuid_entry2){
			.function = entry->function,
			.index = 1,
			.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		};
	}
}

/* What KVM supports, with room for CPUID_ENTRIES_SPARE more; the caller's to free. */
static int supported_cpuid(const struct host *host, struct kvm_cpuid2 **ret, struct error *e)
{
	_cleanup_free_ struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + (CPUID_ENTRIES_MAX + CPUID_ENTRIES_SPARE) *
						   sizeof(cpuid->entries[0]));

	if (!cpuid)
		return error_set(e, -ENOMEM, "out of memory");
	cpuid->nent = CPUID_ENTRIES_MAX;
	if (ioctl(host->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
		return error_set(e, -errno, "reading KVM's CPUID: %s", strerror(errno));
	*ret = TAKE_PTR(cpuid);
	return 0;
}

/* Registers of CPUID that consist of feature bits, without the bits that tell a state instead. */
static const struct {
	uint32_t function;
	uint32_t index;
	uint32_t mask[4]; /* eax, ebx, ecx, edx */
} feature_leaves[] = {
	{1, 0,
		{0, 0, ~(LEAF1_ECX_HYPERVISOR | LEAF1_ECX_TSC_DEADLINE | LEAF1_ECX_OSXSAVE),
			~LEAF1_EDX_HTT}},
	{7, 0, {0, ~0u, ~LEAF7_ECX_OSPKE, ~0u}},
	{7, 1, {~0u, 0, 0, 0}},
	{0xd, 1, {~0u, 0, 0, 0}},
	{0x80000001, 0, {0, 0, ~0u, ~0u}},
	{KVM_CPUID_FEATURES, 0, {~0u, 0, 0, 0}},
};

static const struct kvm_cpuid_entry2 *find_entry(
	const struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function && cpuid->entries[i].index == index)
			return &cpuid->entries[i];
	return NULL;
}

int x86_cpuid_check(const struct host *host, const struct kvm_cpuid2 *cpuid, struct error *e)
{
	static const char *const registers[] = {"EAX", "EBX", "ECX", "EDX"};
	_cleanup_free_ struct kvm_cpuid2 *supported = NULL;
	int r = supported_cpuid(host, &supported, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(feature_leaves); i++) {
		const uint32_t function = feature_leaves[i].function;
		const struct kvm_cpuid_entry2 none = {0},
					      *wanted = find_entry(
						      cpuid, function, feature_leaves[i].index),
					      *here = find_entry(
						      supported, function, feature_leaves[i].index);
		const uint32_t *w = wanted ? &wanted->eax : &none.eax;
		const uint32_t *h = here ? &here->eax : &none.eax;

		for (unsigned j = 0; j < 4; j++) {
			uint32_t missing = w[j] & ~h[j] & feature_leaves[i].mask[j];

			if (missing)
				return error_set(e, -EOPNOTSUPP,
					"the guest uses a CPU feature that this host lacks: CPUID "
					"0x%x.%u %s bit %d",
					function, feature_leaves[i].index, registers[j],
					__builtin_ctz(missing));
		}
	}
	return 0;
}

int x86_cpuid_set(const struct host *host, int vcpu_fd, unsigned index, unsigned n_vcpus,
	const char *features, struct kvm_cpuid2 **ret_cpuid, struct error *e)
{
	_cleanup_free_ struct kvm_cpuid2 *cpuid = NULL;
	_cleanup_free_ struct kvm_cpuid2 *supported = NULL;
	int r = supported_cpuid(host, &cpuid, e);

	if (r == 0)
		r = supported_cpuid(host, &supported, e);
	if (r < 0)
		return r;
	add_core_levels(cpuid);
	for (unsigned i = 0; i < cpuid->nent; i++)
		set_entry(&cpuid->entries[i], index, n_vcpus);
	if (host->backend == HOST_BACKEND_PVM)
		x86_pvm_filter_cpuid(cpuid);
	r = x86_features_apply(host, supported, cpuid, features, e);
	if (r < 0)
		return r;
	if (ioctl(vcpu_fd, KVM_SET_CPUID2, cpuid) < 0)
		return error_set(
			e, -errno, "KVM refuses CPUID of vCPU %u: %s", index, strerror(errno));
	*ret_cpuid = TAKE_PTR(cpuid);
	return 0;
}
