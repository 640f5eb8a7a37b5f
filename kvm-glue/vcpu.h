/*
 * The virtual CPUs: one thread each, which runs the guest and answers its exits; standing still (pause) and going on.
 */
#pragma once

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>

#include "kvm-glue/vm.h"

struct kvm_cpuid2;
struct kvm_run;
struct devices;
struct vcpus;

struct vcpu {
	struct vcpus *all;
	struct vm *vm;
	unsigned index; /* also its APIC id */
	int fd;
	struct kvm_run *run;
	struct kvm_cpuid2 *cpuid; /* as it was set */
	uint8_t *probe; /* see vcpu_wait_for_memory */
	pthread_t thread;
	bool thread_started;
	_Atomic uint64_t run_turns; /* odd while it is in KVM_RUN: see vcpus_settle */
	uint64_t settle_turn; /* of vcpus_settle, which one thread calls at a time; even: it has */
	_Atomic uint32_t tid; /* 0: the thread has not begun */
	/* Counted by its thread, read by anyone. */
	_Atomic uint64_t exits;
	_Atomic uint64_t emulation_completed;
	_Atomic uint64_t memory_waits;
};

/* What the threads shall do. */
enum vcpus_order {
	VCPUS_RUN,
	VCPUS_PARK, /* stand still outside of KVM_RUN */
	VCPUS_QUIT, /* end */
};

struct vcpus {
	struct vm *vm;
	const char *features; /* as of x86-features.h */
	const struct devices *devices; /* for the filter of system calls; set before they run */
	unsigned n;
	struct vcpu *vcpus;
	int parked_fd; /* eventfd: signalled when the last of them has parked */

	pthread_mutex_t lock; /* what follows; a leaf: nothing else is taken under it */
	pthread_cond_t changed;
	enum vcpus_order order;
	unsigned n_parked;
	unsigned n_wanting; /* in vcpu_wait_for_memory: the others stand still, too */
};

struct vcpus_stats {
	uint64_t exits;
	uint64_t emulation_completed;
	uint64_t memory_waits;
	uint64_t cpu_us; /* of their threads */
};

/*
 * Makes n (1..host's limit) vCPUs with their CPUID and reset state; none runs yet. An errno of KVM,
 * or as x86_features_apply. vm and features outlive them.
 */
int vcpus_new(struct vm *vm, unsigned n, const char *features, struct vcpus **ret, struct error *e);
/* Ends the threads and waits for them. NULL is allowed. */
void vcpus_join(struct vcpus *all);
/* Joins and frees. NULL is allowed. */
void vcpus_free(struct vcpus *all);
DEFINE_CLEANUP(struct vcpus *, vcpus_free)

/* Starts the threads, parked. Errno of pthread_create. */
int vcpus_start(struct vcpus *all, struct error *e);
/* Gives the order and returns; after VCPUS_PARK, parked_fd tells when it is done. VCPUS_QUIT is final. Any thread. */
void vcpus_order(struct vcpus *all, enum vcpus_order order);
/* Whether all stand still now. */
bool vcpus_parked(struct vcpus *all);
/*
 * Host CPUs for the threads; with one_each the Nth vCPU gets the Nth of them, of at least as many.
 * -EINVAL: none, or too few; an errno of setting the affinity.
 */
int vcpus_set_cpus(struct vcpus *all, const cpu_set_t *cpus, bool one_each);
/*
 * Returns 0 when each vCPU that was in KVM_RUN has come out of it once since the call, or was seen waiting for a frozen page:
 * whatever KVM did for it before is done. -ETIMEDOUT when one did not for some time. One thread at a time.
 */
int vcpus_settle(struct vcpus *all);
void vcpus_stats_read(struct vcpus *all, struct vcpus_stats *ret);

/*
 * vcpu-state.c. save: they stand still. restore: before vcpus_start. -EINVAL, -EOPNOTSUPP (this
 * host's CPU or KVM lacks what the guest uses), or an errno of KVM; *e says what.
 */
int vcpus_save(struct vcpus *all, struct snapshot_writer *w, struct error *e);
int vcpus_restore(struct vcpus *all, struct snapshot_reader *r, struct error *e);

/*
 * For vcpu.c: stands still while that is the order, for at most max_us when it is not (0: not at all). False when the
 * thread shall end.
 */
bool vcpu_gate(struct vcpu *v, uint64_t max_us);
/* For vcpu.c, after KVM_RUN failed for want of a page: returns when a few pages can be had, with all vCPUs standing still until then. */
void vcpu_wait_for_memory(struct vcpu *v);
/* For vcpu.c, after KVM_RUN was interrupted: takes the kick from the thread's queue, so that it interrupts once. */
void vcpu_take_kick(void);
/* The thread's function: vcpu.c. */
void *vcpu_thread(void *vcpu);
/*
 * For vcpu.c, the exit for a refused instruction: completes it (0), or -EOPNOTSUPP or an errno of KVM with a message for
 * the guest's failure in *e.
 */
int vcpu_emulate(struct vcpu *v, struct error *e);
