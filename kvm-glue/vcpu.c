/*
 * The run loop of a vCPU.
 *
 * DOC: when a page cannot be had
 * The guest's pages are charged to a memory cgroup, which may be full for a moment. Where the kernel faults a page in for
 * a user mode access it waits; where it does so on behalf of KVM (a cgroup v1 limit with the OOM killer disabled) it
 * cannot, and the fault fails. KVM then shows one of two things:
 *
 * - KVM_RUN fails with EFAULT or ENOMEM. Nothing was executed, so the call is repeated when there is memory again, which
 *   vcpu_wait_for_memory (vcpus.c) finds out. It counts as a memory wait. Only when the vCPU has not got one instruction
 *   further in STUCK_WAITS of them does the guest fail, with that reason.
 * - KVM's instruction emulator takes the inaccessible page for MMIO, and an exit arrives with an address that is RAM. The
 *   access is then done here, on the RAM: a user mode access, which waits in the kernel. The guest does not notice.
 */
#include "kvm-glue/vcpu.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kvm-glue/sandbox.h"
#include "memd/base/clock.h"

#define WAIT_FIRST_US (1 * US_PER_MS)
#define WAIT_MAX_US   (50 * US_PER_MS)
#define STUCK_WAITS                                                                                \
	1200 /* a minute of sleeps, besides the time that memory was waited for or the guest was paused */

/* How often, and where, KVM_RUN failed for want of a page. */
struct memory_wait {
	unsigned times;
	uint64_t sleep_us;
	struct kvm_regs regs;
};

static void fail(struct vcpu *v, const char *what)
{
	struct kvm_regs regs = {0};
	struct kvm_sregs sregs = {0};
	char reason[256];

	/* For the message only: without them it says zeros. */
	ioctl(v->fd, KVM_GET_REGS, &regs);
	ioctl(v->fd, KVM_GET_SREGS, &sregs);
	snprintf(reason, sizeof(reason),
		"vCPU %u: %s at RIP 0x%" PRIx64 " (RSP 0x%" PRIx64 ", CR2 0x%" PRIx64
		", CR3 0x%" PRIx64 ", CS 0x%x)",
		v->index, what, (uint64_t)regs.rip, (uint64_t)regs.rsp, (uint64_t)sregs.cr2,
		(uint64_t)sregs.cr3, sregs.cs.selector);
	vm_request_stop(v->vm, true, reason);
}

static void handle_io(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_IN)
			bus_read(v->vm->machine.bus, BUS_PIO, run->io.port, data, run->io.size);
		else
			bus_write(v->vm->machine.bus, BUS_PIO, run->io.port, data, run->io.size);
	}
}

/* One access to RAM that KVM could not do itself; in one piece where it is aligned, as a CPU would. */
static void access_ram(void *ram, uint8_t *data, uint32_t bytes, bool write)
{
	void *to = write ? ram : data;
	const void *from = write ? data : ram;

	if ((uintptr_t)ram % bytes == 0 && bytes == 8)
		__atomic_store_n((uint64_t *)to,
			__atomic_load_n((const uint64_t *)from, __ATOMIC_RELAXED),
			__ATOMIC_RELAXED);
	else if ((uintptr_t)ram % bytes == 0 && bytes == 4)
		__atomic_store_n((uint32_t *)to,
			__atomic_load_n((const uint32_t *)from, __ATOMIC_RELAXED),
			__ATOMIC_RELAXED);
	else if ((uintptr_t)ram % bytes == 0 && bytes == 2)
		__atomic_store_n((uint16_t *)to,
			__atomic_load_n((const uint16_t *)from, __ATOMIC_RELAXED),
			__ATOMIC_RELAXED);
	else
		memcpy(to, from, bytes);
}

static void handle_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	struct machine *m = &v->vm->machine;
	uint32_t bytes = run->mmio.len;
	void *ram = guest_ram_ptr(m->ram, GPA(run->mmio.phys_addr), bytes);

	if (ram) {
		atomic_fetch_add(&v->memory_waits, 1);
		if (run->mmio.is_write)
			guest_ram_wrote(m->ram, GPA(run->mmio.phys_addr), bytes);
		access_ram(ram, run->mmio.data, bytes, run->mmio.is_write);
	} else if (run->mmio.is_write) {
		bus_write(m->bus, BUS_MMIO, run->mmio.phys_addr, run->mmio.data, bytes);
	} else {
		bus_read(m->bus, BUS_MMIO, run->mmio.phys_addr, run->mmio.data, bytes);
	}
}

static void handle_internal_error(struct vcpu *v)
{
	struct error e = {0};
	char what[64];

	if (v->run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION) {
		snprintf(what, sizeof(what), "KVM internal error %u", v->run->internal.suberror);
		fail(v, what);
	} else if (vcpu_emulate(v, &e) < 0) {
		vm_request_stop(v->vm, true, e.text);
	} else {
		atomic_fetch_add(&v->emulation_completed, 1);
	}
}

static void handle_exit(struct vcpu *v)
{
	char what[80];

	switch (v->run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(v);
		break;
	case KVM_EXIT_MMIO:
		handle_mmio(v);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		handle_internal_error(v);
		break;
	case KVM_EXIT_SHUTDOWN:
		fail(v, "triple fault");
		break;
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(what, sizeof(what), "the CPU refuses the guest's state, reason 0x%llx",
			v->run->fail_entry.hardware_entry_failure_reason);
		fail(v, what);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_HLT:
		break;
	default:
		snprintf(what, sizeof(what), "unexpected KVM exit %u", v->run->exit_reason);
		fail(v, what);
	}
}

/* KVM_RUN had no page. Waits a little; false when this vCPU has stood at one instruction for too long or shall end. */
static bool wait_for_memory(struct vcpu *v, struct memory_wait *w)
{
	struct kvm_regs regs;

	memset(&regs, 0, sizeof(regs)); /* compared whole */
	ioctl(v->fd, KVM_GET_REGS, &regs);
	if (w->times++ == 0 || memcmp(&regs, &w->regs, sizeof(regs)) != 0)
		*w = (struct memory_wait){.times = 1, .sleep_us = WAIT_FIRST_US, .regs = regs};
	if (w->times > STUCK_WAITS) {
		fail(v, "no memory for a page of the guest for more than a minute");
		w->times = 0;
	}
	atomic_fetch_add(&v->memory_waits, 1);
	vcpu_wait_for_memory(v);
	if (!vcpu_gate(v, w->sleep_us))
		return false;
	w->sleep_us = w->sleep_us * 2 < WAIT_MAX_US ? w->sleep_us * 2 : WAIT_MAX_US;
	return true;
}

/* KVM_RUN, seen by vcpus_settle. Returns an errno, positive; 0: there is an exit to answer. */
static int run(struct vcpu *v)
{
	int r;

	atomic_fetch_add(&v->run_turns, 1);
	r = ioctl(v->fd, KVM_RUN, 0) < 0 ? errno : 0;
	atomic_fetch_add(&v->run_turns, 1);
	return r;
}

/*
 * Runs until the next exit and answers it. False when the thread shall end. After an exit it is not
 * yet time to stand still: what the exit asked for (a port read into a register) is completed by the
 * next KVM_RUN, which does that and returns at once when there is an order. So a vCPU that stands
 * still is whole, and its registers can be saved.
 */
static bool run_once(struct vcpu *v, struct memory_wait *w)
{
	char what[80];
	int error = run(v);

	switch (error) {
	case 0:
		atomic_fetch_add_explicit(&v->exits, 1, memory_order_relaxed);
		handle_exit(v);
		return true;
	case EINTR:
		vcpu_take_kick();
		return vcpu_gate(v, 0);
	case EAGAIN:
		return vcpu_gate(v, 0);
	case EFAULT:
	case ENOMEM:
		return wait_for_memory(v, w);
	default:
		snprintf(what, sizeof(what), "KVM_RUN fails (%s)", strerror(error));
		fail(v, what);
		return vcpu_gate(v, 0);
	}
}

/*
 * What a vCPU's thread does besides running the guest: it answers accesses to registers, hence what
 * devices do there (interrupts and doorbells, the console, stopping a device and its queues), and
 * waits. It takes no descriptors, starts no threads, and touches no other process.
 */
static const int vcpu_calls[] = {
	SYS_ioctl,
	SYS_futex,
	SYS_rt_sigreturn,
	SYS_rt_sigprocmask,
	SYS_rt_sigtimedwait,
	SYS_tgkill,
	SYS_getpid,
	SYS_gettid,
	SYS_restart_syscall,
	SYS_clock_gettime,
	SYS_clock_nanosleep,
	SYS_timerfd_settime, /* a reset ends a run of hints */
	SYS_sched_yield,
	SYS_read,
	SYS_write,
	SYS_writev,
	SYS_sendto,
	SYS_recvfrom,
	SYS_poll,
	SYS_ftruncate,
	SYS_lseek,
	SYS_close,
	SYS_mmap,
	SYS_munmap,
	SYS_mprotect,
	SYS_madvise,
	SYS_brk,
	SYS_pread64,
	SYS_getrandom,
	SYS_rseq,
	SYS_exit,
	SYS_exit_group,
	-1,
};

static bool shut_in(struct vcpu *v)
{
	struct error e = {0};

	if (sandbox_filter_thread(vcpu_calls, v->all->devices, &e) == 0)
		return true;
	vm_request_stop(v->vm, true, e.text);
	return vcpu_gate(v, 0);
}

void *vcpu_thread(void *vcpu)
{
	struct vcpu *v = vcpu;
	struct memory_wait wait = {0};

	atomic_store(&v->tid, (uint32_t)gettid());
	if (vcpu_gate(v, 0) && shut_in(v))
		while (run_once(v, &wait))
			;
	return NULL;
}
