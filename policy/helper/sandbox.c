/*
 * Isolation of memd-policy. It should end as a process that can compute and answer. It must not
 * open a file, start a program or a thread, reach the network, signal or trace anybody, or live
 * longer than memd.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memd/base/cleanup.h"
#include "memd/base/fd.h"
#include "policy/helper/helper.h"

/* The user nobody, and its group, of every Linux. */
#define NOBODY 65534

/* Sanitizers reserve terabytes of address space, and make calls of their own at any time. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static int set_limit(int resource, rlim_t value, struct error *e)
{
	struct rlimit limit = {value, value};

	if (setrlimit((__rlimit_resource_t)resource, &limit) < 0)
		return error_set(e, -errno, "cannot set a limit: %m");
	return 0;
}

static int set_limits(size_t address_space_max_bytes, struct error *e)
{
	int r;

	r = set_limit(RLIMIT_CORE, 0, e);
	if (r == 0)
		r = set_limit(RLIMIT_MEMLOCK, 0, e);
	if (r == 0 && !SANITIZED)
		r = set_limit(RLIMIT_AS, address_space_max_bytes, e);
	return r;
}

static int drop_root(struct error *e)
{
	if (geteuid() != 0)
		return 0;
	/*
	 * No network, no System V objects, and what is started is alone and ends as a whole. Where
	 * that may not be done the filter refuses the calls all the same.
	 */
	(void)unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWPID);
	if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
		setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return error_set(e, -errno, "cannot become the user nobody: %m");
	return 0;
}

int sandbox_forbid_files(struct error *e)
{
	signal(SIGXFSZ, SIG_IGN); /* a write fails, that is all */
	return set_limit(RLIMIT_FSIZE, 0, e);
}

int sandbox_enter(size_t address_space_max_bytes, struct error *e)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
	int r;

	/* When memory runs out it goes before any guest; where that may not be said it stays. */
	(void)fd_write_file_at(AT_FDCWD, "/proc/self/oom_score_adj", "1000");
	r = set_limits(address_space_max_bytes, e);
	if (r == 0)
		r = drop_root(e);
	if (r < 0)
		return r;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_capset, &header, none) < 0)
		return error_set(e, -errno, "cannot drop capabilities: %m");
	/* After the change of user, which undoes both. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0)
		return error_set(e, -errno, "prctl: %m");
	return 0;
}

/* Computing, memory, the socket, the end. */
static const int running_calls[] = {
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendmsg),
	SCMP_SYS(futex),
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(close),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(getrandom),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(sched_yield),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
};

/* And what the dynamic loader needs; opening for reading is added below. */
static const int loading_calls[] = {
	SCMP_SYS(read),
	SCMP_SYS(pread64),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(readlink),
	SCMP_SYS(readlinkat),
	SCMP_SYS(mmap),
	SCMP_SYS(mprotect),
	SCMP_SYS(prctl),
	/* the next filter */
	SCMP_SYS(seccomp),
};

/*
 * A program and its interpreter need files, so for `exec` the list says what must not be: other
 * processes, kernels and networks, and leaving the process group, by which all of it is ended.
 */
static const int exec_refused[] = {
	SCMP_SYS(socket),
	SCMP_SYS(socketpair),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(kill),
	SCMP_SYS(tkill),
	SCMP_SYS(pidfd_open),
	SCMP_SYS(pidfd_send_signal),
	SCMP_SYS(setsid),
	SCMP_SYS(setpgid),
	SCMP_SYS(unshare),
	SCMP_SYS(setns),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(pivot_root),
	SCMP_SYS(chroot),
	SCMP_SYS(bpf),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(keyctl),
	SCMP_SYS(add_key),
	SCMP_SYS(request_key),
	SCMP_SYS(kexec_load),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(reboot),
	SCMP_SYS(swapon),
	SCMP_SYS(swapoff),
	SCMP_SYS(shmget),
	SCMP_SYS(msgget),
	SCMP_SYS(semget),
	SCMP_SYS(mlockall),
};

static int add_rules(scmp_filter_ctx context, uint32_t action, const int *calls, size_t n)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = seccomp_rule_add(context, action, calls[i], 0);
	return r;
}

/* Memory without code in it; a signal only to itself (abort). */
static int add_running_rules(scmp_filter_ctx context, bool talks)
{
	int r;

	r = add_rules(context, SCMP_ACT_ALLOW, running_calls, ARRAY_SIZE(running_calls));
	if (r == 0)
		r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
			SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (r == 0)
		r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
			SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (r == 0)
		r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
			SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	if (r == 0)
		r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(write), 1,
			SCMP_A0(SCMP_CMP_EQ, HELPER_ERROR_FD));
	if (r == 0 && talks)
		r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(write), 1,
			SCMP_A0(SCMP_CMP_LE, STDERR_FILENO));
	if (r == 0 && talks)
		r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 0);
	return r;
}

/* The filter of the running stage lies on top of this one: both must allow a call. */
static int add_loading_rules(scmp_filter_ctx context)
{
	int r;

	r = add_rules(context, SCMP_ACT_ALLOW, running_calls, ARRAY_SIZE(running_calls));
	if (r == 0)
		r = add_rules(context, SCMP_ACT_ALLOW, loading_calls, ARRAY_SIZE(loading_calls));
	if (r == 0)
		r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
			SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
	if (r == 0)
		r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
			SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	if (r == 0)
		r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(write), 1,
			SCMP_A0(SCMP_CMP_LE, HELPER_ERROR_FD)); /* why it cannot be loaded */
	return r;
}

static void release_filter(scmp_filter_ctx *context)
{
	if (*context)
		seccomp_release(*context);
}

int sandbox_filter(enum sandbox_stage stage, struct error *e)
{
	_cleanup_(release_filter) scmp_filter_ctx context = NULL;
	int r;

	if (SANITIZED)
		return 0;
	context = seccomp_init(stage == SANDBOX_EXEC ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(EPERM));
	if (!context)
		return error_set(e, -ENOMEM, "out of memory");
	if (stage == SANDBOX_EXEC)
		r = add_rules(
			context, SCMP_ACT_ERRNO(EPERM), exec_refused, ARRAY_SIZE(exec_refused));
	else if (stage == SANDBOX_LOADING)
		r = add_loading_rules(context);
	else
		r = add_running_rules(context, stage == SANDBOX_RUNNING_TALKS);
	if (r == 0)
		r = seccomp_load(context);
	return r < 0 ? error_set(e, r, "system call filter: %s", strerror(-r)) : 0;
}
