/*
 * Threads of the vCPUs, and how they are made to stand still.
 *
 * DOC: orders
 * An order is written under the lock; then each vCPU is kicked out of the guest: immediate_exit makes the next KVM_RUN
 * return at once, and a signal ends one that is under way. The thread looks at the order under the lock, where it also
 * clears immediate_exit, so no order is lost. Whoever ends the guest from within an exit (request_stop) gives the order
 * before it returns, so that vCPU executes nothing more either.
 *
 * The signal is unblocked inside KVM_RUN only (KVM_SET_SIGNAL_MASK), which it ends, and is taken from the queue afterwards,
 * so no handler ever runs: its frame would go to the thread's stack, and when that is paged out and the memory cgroup (v1)
 * is full, the kernel cannot write it and ends the process with SIGSEGV.
 *
 * DOC: waiting for memory
 * KVM cannot wait for a page (vcpu.c says when), a thread in user mode can: so the vCPU that had none writes a few pages of its
 * own, the probe, and the kernel lets it go on when the cgroup has room for them. That also tells the group's owner: only a
 * user mode fault raises the out-of-memory event of v1. The other vCPUs stand still meanwhile. They would soon fail
 * alike, or worse: where KVM itself reads or writes guest memory (a page table, the stack of an interrupt) and has no page, it
 * takes the guest for broken and injects a fault that no real machine would have. Seen as a triple fault.
 */
#include "kvm-glue/vcpu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "dedup/freeze.h"
#include "kvm-glue/x86.h"
#include "memd/base/clock.h"

#define KICK_SIGNAL SIGUSR1
/* Whoever writes a frozen page waits as long; a vCPU that has a CPU comes out in some 10 us. */
#define SETTLE_US      (50 * US_PER_MS)
#define SETTLE_LOOK_US 10
#define PROBE_PAGES 16 /* some, so that the guest gets a little further each time */
#define PROBE_BYTES (PROBE_PAGES * PAGE_BYTES)

/* Inside KVM_RUN only the kick is unblocked. */
static int set_run_mask(int vcpu_fd, struct error *e)
{
	/* struct kvm_signal_mask with the kernel's set of 64 signals behind its length */
	struct {
		uint32_t len;
		uint32_t blocked[2];
	} mask = {8, {~(UINT32_C(1) << (KICK_SIGNAL - 1)), UINT32_MAX}};

	if (ioctl(vcpu_fd, KVM_SET_SIGNAL_MASK, &mask) < 0)
		return error_set(e, -errno, "KVM takes no signal mask: %s", strerror(errno));
	return 0;
}

void vcpu_take_kick(void)
{
	const struct timespec now = {0};
	sigset_t kick;

	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	sigtimedwait(&kick, NULL, &now);
}

static int vcpu_init(struct vcpu *v, struct vcpus *all, unsigned index, struct error *e)
{
	size_t bytes = all->vm->host->run_bytes;
	void *run;
	int r;

	v->all = all;
	v->vm = all->vm;
	v->index = index;
	v->fd = ioctl(all->vm->fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (v->fd < 0)
		return error_set(e, -errno, "KVM makes no vCPU %u: %s", index, strerror(errno));
	run = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (run == MAP_FAILED)
		return error_set(e, -errno, "mapping vCPU %u: %s", index, strerror(errno));
	v->run = run;
	run = mmap(NULL, PROBE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (run == MAP_FAILED)
		return error_set(e, -errno, "mapping vCPU %u: %s", index, strerror(errno));
	v->probe = run;
	v->run->immediate_exit = 1; /* the first order is to park */
	r = set_run_mask(v->fd, e);
	if (r < 0)
		return r;
	return x86_cpuid_set(all->vm->host, v->fd, index, all->n, all->features, &v->cpuid, e);
}

int vcpus_new(struct vm *vm, unsigned n, const char *features, struct vcpus **ret, struct error *e)
{
	_cleanup_(vcpus_freep) struct vcpus *all = calloc(1, sizeof(*all));
	pthread_condattr_t attr;
	int r;

	if (!all)
		return error_set(e, -ENOMEM, "out of memory");
	all->vm = vm;
	all->features = features;
	all->order = VCPUS_PARK;
	pthread_mutex_init(&all->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&all->changed, &attr);
	pthread_condattr_destroy(&attr);
	all->parked_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (all->parked_fd < 0)
		return error_set(e, -errno, "eventfd: %s", strerror(errno));
	all->vcpus = calloc(n, sizeof(*all->vcpus));
	if (!all->vcpus)
		return error_set(e, -ENOMEM, "out of memory");
	all->n = n;
	for (unsigned i = 0; i < n; i++)
		all->vcpus[i].fd = -1;
	for (unsigned i = 0; i < n; i++) {
		r = vcpu_init(&all->vcpus[i], all, i, e);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(all);
	return 0;
}

void vcpus_join(struct vcpus *all)
{
	if (!all)
		return;
	vcpus_order(all, VCPUS_QUIT);
	for (unsigned i = 0; i < all->n; i++) {
		struct vcpu *v = &all->vcpus[i];

		if (v->thread_started)
			pthread_join(v->thread, NULL);
		pthread_mutex_lock(&all->lock); /* vcpus_order looks at it */
		v->thread_started = false;
		pthread_mutex_unlock(&all->lock);
	}
}

void vcpus_free(struct vcpus *all)
{
	if (!all)
		return;
	vcpus_join(all);
	for (unsigned i = 0; i < all->n; i++) {
		struct vcpu *v = &all->vcpus[i];

		if (v->run)
			munmap(v->run, all->vm->host->run_bytes);
		if (v->probe)
			munmap(v->probe, PROBE_BYTES);
		free(v->cpuid);
		cleanup_closep(&v->fd);
	}
	free(all->vcpus);
	cleanup_closep(&all->parked_fd);
	pthread_cond_destroy(&all->changed);
	pthread_mutex_destroy(&all->lock);
	free(all);
}

static int start_thread(struct vcpu *v)
{
	char name[16];
	int r;

	pthread_mutex_lock(&v->all->lock);
	r = -pthread_create(&v->thread, NULL, vcpu_thread, v);
	v->thread_started = r == 0;
	pthread_mutex_unlock(&v->all->lock);
	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "vcpu%u", v->index);
	pthread_setname_np(v->thread, name);
	return 0;
}

int vcpus_start(struct vcpus *all, struct error *e)
{
	sigset_t blocked, before;
	int r = 0;

	sigfillset(&blocked);
	pthread_sigmask(SIG_SETMASK, &blocked, &before); /* the threads inherit it */
	for (unsigned i = 0; i < all->n && r == 0; i++) {
		r = start_thread(&all->vcpus[i]);
		if (r < 0)
			error_set(e, r, "thread of vCPU %u: %s", i, strerror(-r));
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

/* Tells the guest's clock that the pause is not the guest's fault: no soft lockup reports. All are parked; lock held. */
static void forgive_pause(struct vcpus *all)
{
	for (unsigned i = 0; i < all->n; i++)
		ioctl(all->vcpus[i].fd,
			KVM_KVMCLOCK_CTRL); /* refused by a guest without that clock */
}

/* Makes all threads but one look at the order; lock held. */
static void kick_others(struct vcpus *all, const struct vcpu *except)
{
	for (unsigned i = 0; i < all->n; i++) {
		struct vcpu *v = &all->vcpus[i];

		if (v == except || !v->thread_started)
			continue;
		__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_RELAXED);
		pthread_kill(v->thread, KICK_SIGNAL);
	}
}

void vcpus_order(struct vcpus *all, enum vcpus_order order)
{
	pthread_mutex_lock(&all->lock);
	if (order == VCPUS_RUN && all->n_parked == all->n)
		forgive_pause(all);
	if (all->order != VCPUS_QUIT)
		all->order = order;
	pthread_cond_broadcast(&all->changed);
	if (order != VCPUS_RUN)
		kick_others(all, NULL);
	pthread_mutex_unlock(&all->lock);
}

/* Only where it stands in KVM_RUN now: the signal would end the next one otherwise, needlessly. */
static void kick_running(struct vcpu *v)
{
	pthread_mutex_lock(&v->all->lock);
	if (v->thread_started)
		pthread_kill(v->thread, KICK_SIGNAL);
	pthread_mutex_unlock(&v->all->lock);
}

static bool settled(const struct vcpu *v)
{
	return v->settle_turn % 2 == 0 || atomic_load(&v->run_turns) != v->settle_turn;
}

/* Who waits for a frozen page has settled. */
static void look_who_waits(struct vcpus *all)
{
	uint32_t tids[32];
	size_t n;

	do {
		n = freeze_waiting(all->vm->machine.ram, tids, ARRAY_SIZE(tids));
		for (size_t i = 0; i < n; i++)
			for (unsigned j = 0; j < all->n; j++)
				if (atomic_load(&all->vcpus[j].tid) == tids[i])
					all->vcpus[j].settle_turn = 0;
	} while (n == ARRAY_SIZE(tids));
}

int vcpus_settle(struct vcpus *all)
{
	uint64_t until_us = clock_monotonic_us() + SETTLE_US;

	for (unsigned i = 0; i < all->n; i++) {
		struct vcpu *v = &all->vcpus[i];

		v->settle_turn = atomic_load(&v->run_turns);
		if (v->settle_turn % 2)
			kick_running(v);
	}
	for (unsigned i = 0; i < all->n; i++) {
		while (!settled(&all->vcpus[i])) {
			look_who_waits(all);
			if (clock_monotonic_us() >= until_us)
				return -ETIMEDOUT;
			clock_sleep_us(SETTLE_LOOK_US);
		}
	}
	return 0;
}

bool vcpus_parked(struct vcpus *all)
{
	bool parked;

	pthread_mutex_lock(&all->lock);
	parked = all->n_parked == all->n;
	pthread_mutex_unlock(&all->lock);
	return parked;
}

/* From here on the thread does not run the guest; lock held. */
static void stand_still(struct vcpus *all)
{
	if (++all->n_parked == all->n)
		eventfd_write(all->parked_fd, 1);
}

static void park(struct vcpus *all)
{
	stand_still(all);
	while (all->order == VCPUS_PARK)
		pthread_cond_wait(&all->changed, &all->lock);
	all->n_parked--;
}

void vcpu_wait_for_memory(struct vcpu *v)
{
	struct vcpus *all = v->all;

	pthread_mutex_lock(&all->lock);
	if (all->n_wanting++ == 0)
		kick_others(all, v);
	stand_still(all); /* a pause need not wait for memory */
	pthread_mutex_unlock(&all->lock);
	for (uint64_t at = 0; at < PROBE_BYTES; at += PAGE_BYTES)
		*(volatile uint8_t *)(v->probe + at) = 1;
	madvise(v->probe, PROBE_BYTES, MADV_DONTNEED);
	pthread_mutex_lock(&all->lock);
	all->n_parked--;
	if (--all->n_wanting == 0)
		pthread_cond_broadcast(&all->changed);
	pthread_mutex_unlock(&all->lock);
}

bool vcpu_gate(struct vcpu *v, uint64_t max_us)
{
	struct vcpus *all = v->all;
	uint64_t until_us = max_us > 0 ? clock_monotonic_us() + max_us : 0;
	struct timespec until = {
		.tv_sec = (time_t)(until_us / US_PER_S),
		.tv_nsec = (long)(until_us % US_PER_S * 1000),
	};
	bool go_on;

	/* The common case, after each exit, costs no lock: whoever gives an order sets immediate_exit. */
	if (max_us == 0 && !__atomic_load_n(&v->run->immediate_exit, __ATOMIC_RELAXED))
		return true;
	pthread_mutex_lock(&all->lock);
	while (max_us > 0 && all->order == VCPUS_RUN &&
		pthread_cond_timedwait(&all->changed, &all->lock, &until) != ETIMEDOUT)
		;
	while (all->order == VCPUS_PARK || (all->order == VCPUS_RUN && all->n_wanting > 0)) {
		if (all->order == VCPUS_PARK)
			park(all);
		else
			pthread_cond_wait(&all->changed, &all->lock);
	}
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_RELAXED);
	go_on = all->order != VCPUS_QUIT;
	pthread_mutex_unlock(&all->lock);
	return go_on;
}

int vcpus_set_cpus(struct vcpus *all, const cpu_set_t *cpus, bool one_each)
{
	int n = CPU_COUNT(cpus), cpu = -1, r = 0;

	if (n == 0 || (one_each && n < (int)all->n))
		return -EINVAL;
	for (unsigned i = 0; i < all->n && r == 0; i++) {
		cpu_set_t own = *cpus;

		if (one_each) {
			do
				cpu++;
			while (!CPU_ISSET(cpu, cpus));
			CPU_ZERO(&own);
			CPU_SET(cpu, &own);
		}
		r = -pthread_setaffinity_np(all->vcpus[i].thread, sizeof(own), &own);
	}
	return r;
}

static uint64_t thread_cpu_us(const struct vcpu *v)
{
	struct timespec t;
	clockid_t clock;

	if (!v->thread_started || pthread_getcpuclockid(v->thread, &clock) != 0 ||
		clock_gettime(clock, &t) < 0)
		return 0;
	return (uint64_t)t.tv_sec * US_PER_S + (uint64_t)t.tv_nsec / 1000;
}

void vcpus_stats_read(struct vcpus *all, struct vcpus_stats *ret)
{
	*ret = (struct vcpus_stats){0};
	for (unsigned i = 0; i < all->n; i++) {
		ret->exits += atomic_load(&all->vcpus[i].exits);
		ret->emulation_completed += atomic_load(&all->vcpus[i].emulation_completed);
		ret->memory_waits += atomic_load(&all->vcpus[i].memory_waits);
		ret->cpu_us += thread_cpu_us(&all->vcpus[i]);
	}
}
