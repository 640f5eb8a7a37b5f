/*
 * CPU features by name, as in CpuFeatures=: "-avx512f" hides one from the guest, "+vmx" asks for one
 * that is hidden by default. Names are those of /proc/cpuinfo, and for KVM's own features kvmclock
 * and kvm-*.
 */
#pragma once

#include "kvm-glue/host.h"
#include "memd/base/error.h"

struct kvm_cpuid2;

/* Whether text is a list of known names, each with its sign, separated by spaces. -EINVAL; *e names the first that is none. */
int x86_features_check(const char *text, struct error *e);

/*
 * Changes cpuid, which is what KVM supports and was filtered for the back end: first hides what is
 * not for every guest (nested virtualization), then goes by text. -EOPNOTSUPP: a feature was asked
 * for that supported, what KVM says, does not have; *e says why and what helps.
 */
int x86_features_apply(const struct host *host, const struct kvm_cpuid2 *supported,
	struct kvm_cpuid2 *cpuid, const char *text, struct error *e);
