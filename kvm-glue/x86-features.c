/* Names of CPUID bits (Intel SDM vol. 2, CPUID; AMD APM vol. 3, E; Documentation/virt/kvm/x86/cpuid.rst). */
#include "kvm-glue/x86-features.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "memd/base/cleanup.h"

enum cpuid_register {
	EAX,
	EBX,
	ECX,
	EDX,
};

struct feature {
	const char *name;
	uint32_t function;
	uint32_t index;
	enum cpuid_register reg;
	unsigned bit;
};

/* clang-format off */
static const struct feature features[] = {
	{"sse3", 1, 0, ECX, 0}, {"pclmulqdq", 1, 0, ECX, 1}, {"vmx", 1, 0, ECX, 5},
	{"ssse3", 1, 0, ECX, 9}, {"fma", 1, 0, ECX, 12}, {"cx16", 1, 0, ECX, 13},
	{"pcid", 1, 0, ECX, 17}, {"sse4_1", 1, 0, ECX, 19}, {"sse4_2", 1, 0, ECX, 20},
	{"x2apic", 1, 0, ECX, 21}, {"movbe", 1, 0, ECX, 22}, {"popcnt", 1, 0, ECX, 23},
	{"tsc_deadline_timer", 1, 0, ECX, 24}, {"aes", 1, 0, ECX, 25}, {"xsave", 1, 0, ECX, 26},
	{"avx", 1, 0, ECX, 28}, {"f16c", 1, 0, ECX, 29}, {"rdrand", 1, 0, ECX, 30},
	{"hypervisor", 1, 0, ECX, 31},
	{"fsgsbase", 7, 0, EBX, 0}, {"bmi1", 7, 0, EBX, 3}, {"hle", 7, 0, EBX, 4},
	{"avx2", 7, 0, EBX, 5}, {"smep", 7, 0, EBX, 7}, {"bmi2", 7, 0, EBX, 8},
	{"erms", 7, 0, EBX, 9}, {"invpcid", 7, 0, EBX, 10}, {"rtm", 7, 0, EBX, 11},
	{"avx512f", 7, 0, EBX, 16}, {"avx512dq", 7, 0, EBX, 17}, {"rdseed", 7, 0, EBX, 18},
	{"adx", 7, 0, EBX, 19}, {"smap", 7, 0, EBX, 20}, {"clflushopt", 7, 0, EBX, 23},
	{"clwb", 7, 0, EBX, 24}, {"avx512cd", 7, 0, EBX, 28}, {"sha_ni", 7, 0, EBX, 29},
	{"avx512bw", 7, 0, EBX, 30}, {"avx512vl", 7, 0, EBX, 31},
	{"umip", 7, 0, ECX, 2}, {"pku", 7, 0, ECX, 3}, {"gfni", 7, 0, ECX, 8},
	{"vaes", 7, 0, ECX, 9}, {"vpclmulqdq", 7, 0, ECX, 10}, {"la57", 7, 0, ECX, 16},
	{"rdpid", 7, 0, ECX, 22},
	{"fsrm", 7, 0, EDX, 4}, {"serialize", 7, 0, EDX, 14}, {"amx_bf16", 7, 0, EDX, 22},
	{"amx_tile", 7, 0, EDX, 24}, {"amx_int8", 7, 0, EDX, 25},
	{"svm", 0x80000001, 0, ECX, 2}, {"lzcnt", 0x80000001, 0, ECX, 5},
	{"nx", 0x80000001, 0, EDX, 20}, {"pdpe1gb", 0x80000001, 0, EDX, 26},
	{"rdtscp", 0x80000001, 0, EDX, 27}, {"lm", 0x80000001, 0, EDX, 29},
	{"kvmclock", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_CLOCKSOURCE2},
	{"kvm-async-pf", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_ASYNC_PF},
	{"kvm-async-pf-int", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_ASYNC_PF_INT},
	{"kvm-steal-time", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_STEAL_TIME},
	{"kvm-pv-eoi", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_PV_EOI},
	{"kvm-pv-unhalt", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_PV_UNHALT},
	{"kvm-pv-tlb-flush", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_PV_TLB_FLUSH},
	{"kvm-pv-ipi", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_PV_SEND_IPI},
	{"kvm-pv-sched-yield", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_PV_SCHED_YIELD},
};
/* clang-format on */

/* Only for guests that ask: few need it, and it widens what a guest can reach of the host's KVM. */
static const char *const hidden_by_default[] = {"vmx", "svm"};

static const struct feature *find(const char *name, size_t size)
{
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (strlen(features[i].name) == size && memcmp(features[i].name, name, size) == 0)
			return &features[i];
	return NULL;
}

static uint32_t *find_register(struct kvm_cpuid2 *cpuid, const struct feature *f)
{
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		if (entry->function != f->function || entry->index != f->index)
			continue;
		switch (f->reg) {
		case EAX:
			return &entry->eax;
		case EBX:
			return &entry->ebx;
		case ECX:
			return &entry->ecx;
		case EDX:
			return &entry->edx;
		}
	}
	return NULL;
}

static bool has(const struct kvm_cpuid2 *cpuid, const struct feature *f)
{
	/* only reads */
	const uint32_t *reg = find_register((struct kvm_cpuid2 *)(uintptr_t)cpuid, f);

	return reg && (*reg >> f->bit & 1);
}

static void hide(struct kvm_cpuid2 *cpuid, const struct feature *f)
{
	uint32_t *reg = find_register(cpuid, f);

	if (reg)
		*reg &= ~(UINT32_C(1) << f->bit);
}

static bool is_nested(const struct feature *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(hidden_by_default); i++)
		if (strcmp(f->name, hidden_by_default[i]) == 0)
			return true;
	return false;
}

static int refuse(const struct host *host, const struct feature *f, struct error *e)
{
	if (is_nested(f))
		return error_set(e, -EOPNOTSUPP,
			"+%s: this host's KVM (%s) offers no nested virtualization of that kind; "
			"%s",
			f->name, host_backend_name(host->backend),
			host->backend == HOST_BACKEND_PVM
				? "it has none itself to offer"
				: "it takes kvm_intel or kvm_amd with nested=1, and a CPU of that "
				  "maker");
	return error_set(e, -EOPNOTSUPP, "+%s: this host's CPU or its KVM (%s) does not have it",
		f->name, host_backend_name(host->backend));
}

static int show(const struct host *host, const struct kvm_cpuid2 *supported,
	struct kvm_cpuid2 *cpuid, const struct feature *f, struct error *e)
{
	uint32_t *reg = find_register(cpuid, f);

	if (!reg || !has(supported, f))
		return refuse(host, f, e);
	*reg |= UINT32_C(1) << f->bit;
	return 0;
}

/*
 * The next word of *text: its feature and sign. 1, 0 at the end, -EINVAL.
 */
static int next(const char **text, const struct feature **ret, bool *ret_show, struct error *e)
{
	const char *word = *text + strspn(*text, " ");
	size_t size = strcspn(word, " ");

	if (size == 0)
		return 0;
	*ret = word[0] == '+' || word[0] == '-' ? find(word + 1, size - 1) : NULL;
	if (!*ret)
		return error_set(e, -EINVAL,
			"'%.*s' is no CPU feature with its sign: they look like -avx512f or +vmx, "
			"with the names of /proc/cpuinfo",
			(int)(size < 40 ? size : 40), word);
	*ret_show = word[0] == '+';
	*text = word + size;
	return 1;
}

int x86_features_check(const char *text, struct error *e)
{
	const struct feature *f;
	bool wanted;
	int r;

	do
		r = next(&text, &f, &wanted, e);
	while (r > 0);
	return r;
}

int x86_features_apply(const struct host *host, const struct kvm_cpuid2 *supported,
	struct kvm_cpuid2 *cpuid, const char *text, struct error *e)
{
	const struct feature *f;
	bool wanted;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(hidden_by_default); i++)
		hide(cpuid, find(hidden_by_default[i], strlen(hidden_by_default[i])));
	while ((r = next(&text, &f, &wanted, e)) > 0) {
		if (!wanted)
			hide(cpuid, f);
		else if (show(host, supported, cpuid, f, e) < 0)
			return -EOPNOTSUPP;
	}
	return r;
}
