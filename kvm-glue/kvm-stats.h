/*
 * KVM's own statistics of a VM and of its vCPUs (KVM_GET_STATS_FD, Documentation/virt/kvm/api.rst
 * 4.133), and how its memory is virtualized. Read at any time, by one thread.
 */
#pragma once

#include <stdint.h>

#include "kvm-glue/host.h"
#include "memd/base/cleanup.h"
#include "memd/base/error.h"

/* Those that are shown; of a vCPU's the sum over all of them. What this KVM does not count stays 0. */
enum kvm_stat {
	KVM_STAT_PAGES_4K,
	KVM_STAT_PAGES_2M,
	KVM_STAT_PAGES_1G,
	KVM_STAT_MMU_UNSYNC, /* shadow pages that are brought up to date lazily */
	KVM_STAT_MMU_SHADOW_ZAPPED,
	KVM_STAT_MMU_PTE_WRITE,
	KVM_STAT_REMOTE_TLB_FLUSHES, /* of the VM */
	KVM_STAT_TLB_FLUSHES, /* of vCPUs */
	KVM_STAT_PF_TAKEN,
	KVM_STAT_PF_FIXED,
	KVM_STAT_PF_GUEST,
	KVM_STAT_EXITS,
	KVM_STAT_HALT_EXITS,
	KVM_STAT_IO_EXITS,
	KVM_STAT_MMIO_EXITS,
	KVM_STATS,
};

struct kvm_stats;

/* vcpu_fds: n of them; none of the descriptors is kept. -ENOTSUP: a kernel without (before 5.14), or an errno. */
int kvm_stats_new(int vm_fd, const int *vcpu_fds, unsigned n, struct kvm_stats **ret);
void kvm_stats_free(struct kvm_stats *s);
DEFINE_CLEANUP(struct kvm_stats *, kvm_stats_free)
/* An errno of reading. */
int kvm_stats_read(const struct kvm_stats *s, uint64_t ret[KVM_STATS]);
