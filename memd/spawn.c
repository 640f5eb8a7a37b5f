/*
 * fork and exec. memd has threads: between the two, the child makes only calls that
 * signal-safety(7) allows, and all it needs is prepared before.
 */
#include "memd/spawn.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "memd/base/cleanup.h"
#include "memd/base/fd.h"

/*
 * What a child may inherit of the environment. Not NOTIFY_SOCKET, and nothing that changes how
 * libraries behave.
 */
static const char *const environment_kept[] = {
	"MEMD_LOG",
	"JOURNAL_STREAM",
	"ASAN_OPTIONS",
	"TSAN_OPTIONS",
	"UBSAN_OPTIONS",
};
#define ENVIRONMENT_MAX (ARRAY_SIZE(environment_kept) + 3)

/*
 * No restartable sequences (rseq(2)): the kernel writes to them when it returns to user space, and ends the
 * process with SIGSEGV when it cannot, as when their page is swapped and the cgroup (v1) is full.
 */
static char no_rseq[] = "GLIBC_TUNABLES=glibc.pthread.rseq=0";

extern char **environ;

static void build_environment(char *ret[ENVIRONMENT_MAX])
{
	static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	size_t n = 0;

	ret[n++] = path;
	ret[n++] = no_rseq;
	for (char **v = environ; *v; v++) {
		for (size_t i = 0; i < ARRAY_SIZE(environment_kept) && n < ENVIRONMENT_MAX - 1;
			i++) {
			size_t size = strlen(environment_kept[i]);

			if (strncmp(*v, environment_kept[i], size) == 0 && (*v)[size] == '=')
				ret[n++] = *v;
		}
	}
	ret[n] = NULL;
}

static void child_fail(int error_fd, const char *what, int error)
{
	const char *why = strerrordesc_np(error); /* no locale, no allocation */

	if (!why)
		why = "unknown error";
	/* Nobody is left to hear of a failed write. */
	if (write(error_fd, what, strlen(what)) < 0 || write(error_fd, ": ", 2) < 0 ||
		write(error_fd, why, strlen(why)) < 0 || write(error_fd, "\n", 1) < 0)
		_exit(127);
	_exit(127);
}

/*
 * In the child. The descriptors are above SPAWN_TEMPLATE_FD (see spawn_program), hence dup2
 * overwrites none of them. template_fd -1: none.
 */
static void child_main(const struct spawn_request *request, char *const *environment, int socket_fd,
	int error_fd, int template_fd, int go_fd)
{
	const unsigned first_closed = template_fd >= 0 ? SPAWN_TEMPLATE_FD + 1 : SPAWN_TEMPLATE_FD;
	sigset_t none;
	char go;

	for (int s = 1; s < SIGRTMIN; s++)
		signal(s, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	if (read(go_fd, &go, 1) != 1)
		_exit(127); /* memd is gone */
	setpriority(PRIO_PROCESS, 0, 0); /* memd itself runs with more */
	if (request->procs_fd >= 0 && write(request->procs_fd, "0", 1) < 0)
		child_fail(error_fd, "cannot join the guest's memory cgroup", errno);
	close(STDIN_FILENO);
	if (open("/dev/null", O_RDONLY) != STDIN_FILENO)
		child_fail(error_fd, "cannot open /dev/null", errno);
	if (dup2(socket_fd, SPAWN_SOCKET_FD) < 0 || dup2(error_fd, SPAWN_ERROR_FD) < 0 ||
		(template_fd >= 0 && dup2(template_fd, SPAWN_TEMPLATE_FD) < 0))
		child_fail(error_fd, "cannot set up descriptors", errno);
	if (!request->keep_error_fd)
		fcntl(SPAWN_ERROR_FD, F_SETFD, FD_CLOEXEC);
	if (close_range(first_closed, UINT_MAX, 0) < 0)
		child_fail(SPAWN_ERROR_FD, "cannot close descriptors", errno);
	execve(request->argv[0], request->argv, environment);
	child_fail(SPAWN_ERROR_FD, request->argv[0], errno);
}

/*
 * fork, in a process namespace of its own if asked for and possible. The bare system call is enough:
 * the child makes none but what signal-safety(7) allows before it executes.
 */
static pid_t fork_child(int own_pid_namespace)
{
	long pid = -1;

	if (own_pid_namespace)
		pid = syscall(SYS_clone, SIGCHLD | CLONE_NEWPID, NULL, NULL, NULL, NULL);
	return pid >= 0 ? (pid_t)pid : fork();
}

int spawn_program(const struct spawn_request *request, struct spawned *ret, struct error *e)
{
	char *environment[ENVIRONMENT_MAX];
	_cleanup_close_ int socket_fd = -1;
	_cleanup_close_ int error_read = -1;
	_cleanup_close_ int error_write = -1;
	_cleanup_close_ int template_fd = -1;
	_cleanup_close_ int go_read = -1;
	_cleanup_close_ int go_write = -1;
	int fds[2], pidfd;
	pid_t pid;

	build_environment(environment);
	socket_fd = fcntl(request->socket_fd, F_DUPFD_CLOEXEC, SPAWN_TEMPLATE_FD + 1);
	if (request->template_fd > 0)
		template_fd = fcntl(request->template_fd, F_DUPFD_CLOEXEC, SPAWN_TEMPLATE_FD + 1);
	if (socket_fd < 0 || (request->template_fd > 0 && template_fd < 0))
		return error_set(e, -errno, "cannot duplicate a descriptor: %m");
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(e, -errno, "cannot make a pipe: %m");
	error_read = fds[0];
	error_write = fcntl(fds[1], F_DUPFD_CLOEXEC, SPAWN_TEMPLATE_FD + 1);
	close(fds[1]);
	if (error_write < 0 || fd_set_nonblock(error_read, true) < 0)
		return error_set(e, -errno, "cannot set up a pipe: %m");
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(e, -errno, "cannot make a pipe: %m");
	go_read = fds[0];
	go_write = fds[1];
	pid = fork_child(request->own_pid_namespace);
	if (pid < 0)
		return error_set(e, -errno, "cannot fork: %m");
	if (pid == 0) {
		close(go_write); /* else it would wait for itself */
		child_main(request, environment, socket_fd, error_write, template_fd, go_read);
	}
	pidfd = fd_pidfd_open(pid); /* not reaped yet: the number is still the child's */
	if (pidfd < 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return error_set(
			e, pidfd, "cannot watch process %d: %s", (int)pid, strerror(-pidfd));
	}
	*ret = (struct spawned){
		.pid = pid,
		.pidfd = pidfd,
		.go_fd = TAKE_FD(go_write),
		.error_fd = TAKE_FD(error_read),
	};
	return 0;
}

int spawn_release(struct spawned *s)
{
	int r = fd_write_full(s->go_fd, "g", 1);

	cleanup_closep(&s->go_fd);
	s->go_fd = -1;
	return r;
}
