/* Isolation (sandbox.h). */
#include "kvm-glue/sandbox.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <limits.h>
#include <seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memd/base/cleanup.h"

#define FIRST_STRAY_FD 3
#define NICE_RANGE     40 /* getrlimit(2): 20 - nice, down to -20 */

int sandbox_close_stray(const int *keep, size_t n, struct error *e)
{
	int from = FIRST_STRAY_FD;

	while (from >= 0) {
		int next = INT_MAX; /* the lowest one to keep from here on */

		for (size_t i = 0; i < n; i++)
			if (keep[i] >= from && keep[i] < next)
				next = keep[i];
		if (next > from && syscall(SYS_close_range, from,
					   next == INT_MAX ? UINT_MAX : next - 1u, 0) < 0)
			return error_set(
				e, -errno, "closing inherited descriptors: %s", strerror(errno));
		from = next == INT_MAX ? -1 : next + 1;
	}
	return 0;
}

int sandbox_drop_privileges(struct error *e)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
	struct rlimit no_core = {0, 0}, any_nice = {NICE_RANGE, NICE_RANGE};

	/* a core dump would hold the guest's memory */
	if (setrlimit(RLIMIT_CORE, &no_core) < 0)
		return error_set(e, -errno, "core dump limit: %s", strerror(errno));
	/* for the control thread, and the scanner while pages are frozen (dedup/scan.c); works without */
	setrlimit(RLIMIT_NICE, &any_nice);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set(e, -errno, "no_new_privs: %s", strerror(errno));
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
		syscall(SYS_capset, &header, none) < 0)
		return error_set(e, -errno, "dropping capabilities: %s", strerror(errno));
	return 0;
}

static const int allowed_calls[] = {
	/* vCPUs: KVM_RUN, kicks; all: locks, clocks, the end */
	SCMP_SYS(ioctl),
	SCMP_SYS(futex),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigtimedwait),
	SCMP_SYS(tgkill),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(sched_yield),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(rseq),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(timerfd_settime), /* of a run of hints */
	SCMP_SYS(setitimer),
	SCMP_SYS(alarm),
	/* control and devices: sockets, eventfds, the console file */
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(sendmsg),
	SCMP_SYS(accept4),
	SCMP_SYS(setsockopt),
	SCMP_SYS(getsockopt),
	SCMP_SYS(fcntl),
	SCMP_SYS(close),
	SCMP_SYS(ftruncate),
	SCMP_SYS(fdatasync),
	SCMP_SYS(lseek),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(eventfd2),
	SCMP_SYS(pipe2),
	/* scanner and balloon: mapping and discarding guest memory, its page map; the allocator */
	SCMP_SYS(mmap),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(mprotect),
	SCMP_SYS(madvise),
	SCMP_SYS(process_madvise),
	SCMP_SYS(pread64),
	SCMP_SYS(preadv),
	SCMP_SYS(pwrite64),
	SCMP_SYS(brk),
	SCMP_SYS(prctl),
	SCMP_SYS(getrandom),
	SCMP_SYS(getrusage),
	SCMP_SYS(getcpu),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sched_setaffinity), /* the control thread, for vCPUs */
	SCMP_SYS(getpriority),
	SCMP_SYS(setpriority),
	SCMP_SYS(sched_setscheduler),
	SCMP_SYS(clock_getres),
	/* threads that the allocator or a device starts later */
	SCMP_SYS(clone),
	SCMP_SYS(clone3),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(sysinfo), /* qsort asks how much memory there is */
	/* the narrower filters of single threads */
	SCMP_SYS(seccomp),
	-1,
};

/* For files: libraries look for some, and do without. */
static const int refused_calls[] = {
	SCMP_SYS(open),
	SCMP_SYS(openat),
	SCMP_SYS(access),
	SCMP_SYS(faccessat),
	SCMP_SYS(readlink),
	SCMP_SYS(readlinkat),
	SCMP_SYS(stat),
	SCMP_SYS(unlink),
};

static void release_filter(scmp_filter_ctx *context)
{
	if (*context)
		seccomp_release(*context);
}

static int allow(void *context, int call)
{
	int r = seccomp_rule_add(context, SCMP_ACT_ALLOW, call, 0);

	return r == -EEXIST ? 0 : r; /* two devices of a kind, or one that wants what all may */
}

static int allow_all(scmp_filter_ctx context, const int *calls, const struct devices *devices)
{
	int r = 0;

	for (size_t i = 0; r == 0 && calls[i] >= 0; i++)
		r = allow(context, calls[i]);
	return r == 0 && devices ? devices_each_call(devices, allow, context) : r;
}

static int load_filter(
	const int *calls, const struct devices *devices, uint32_t for_all_threads, struct error *e)
{
	_cleanup_(release_filter) scmp_filter_ctx context = NULL;
	int r;

	if (!SANDBOX_COMPLETE)
		return 0;
	context = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!context)
		return error_set(e, -ENOMEM, "out of memory");
	r = seccomp_attr_set(context, SCMP_FLTATR_CTL_TSYNC, for_all_threads);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(refused_calls); i++)
		r = seccomp_rule_add(context, SCMP_ACT_ERRNO(EPERM), refused_calls[i], 0);
	if (r == 0)
		r = allow_all(context, calls, devices);
	if (r == 0)
		r = seccomp_load(context);
	return r < 0 ? error_set(e, r, "system call filter: %s", strerror(-r)) : 0;
}

int sandbox_filter(const struct devices *devices, struct error *e)
{
	return load_filter(allowed_calls, devices, 1, e);
}

int sandbox_filter_thread(const int *calls, const struct devices *devices, struct error *e)
{
	return load_filter(calls, devices, 0, e);
}
