/* See service-run.h. */
#include "tests/guest/service-run.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "memd/base/clock.h"
#include "memd/base/ipc.h"

#define LOOK_US		(10 * US_PER_MS)
#define CHILD_LISTEN_FD 3
#define ARGUMENTS_MAX	32
#define RUNNING_MAX	64

/*
 * What runs now. A test whose assertion failed does not come to its clean-up, and a process that has
 * become another user (memd-vmm does) loses its death signal: it would keep the pipe of this test's
 * output open, and whoever reads that waiting.
 */
static pid_t running[RUNNING_MAX];
static pid_t runner; /* children of the test exit, too */

static void note(pid_t former, pid_t now)
{
	for (size_t i = 0; i < RUNNING_MAX; i++)
		if (running[i] == former) {
			running[i] = now;
			return;
		}
}

static void kill_running(void)
{
	for (size_t i = 0; getpid() == runner && i < RUNNING_MAX; i++)
		if (running[i])
			kill(running[i], SIGKILL);
}

int service_run_build_path(const char *relative, char *buffer, size_t size)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return -errno;
	self[n] = '\0';
	for (unsigned up = 0; up < 3; up++) {
		char *slash = strrchr(self, '/');

		if (!slash)
			return -ENOENT;
		*slash = '\0';
	}
	n = snprintf(buffer, size, "%s/%s", self, relative);
	return n < (ssize_t)size ? 0 : -ENAMETOOLONG;
}

int service_run_init(struct service_run *s)
{
	*s = (struct service_run){0};
	(void)snprintf(s->directory, sizeof(s->directory), "/tmp/memd-test-XXXXXX");
	if (!mkdtemp(s->directory)) {
		s->directory[0] = '\0';
		return -errno;
	}
	(void)snprintf(s->socket, sizeof(s->socket), "%s/socket", s->directory);
	return 0;
}

static void remove_directory(const char *path)
{
	_cleanup_closedir_ DIR *d = opendir(path);
	const struct dirent *entry;

	while (d && (entry = readdir(d)))
		(void)unlinkat(dirfd(d), entry->d_name, 0);
	rmdir(path);
}

/* Signals that nobody sends to processes of ours: they come of what the process does itself. */
static bool is_of_a_bug(int signal)
{
	return signal == SIGSEGV || signal == SIGBUS || signal == SIGABRT || signal == SIGILL ||
	       signal == SIGFPE || signal == SIGTRAP || signal == SIGSYS;
}

void service_run_done(struct service_run *s)
{
	if (s->pid > 0 && !service_run_reap(s, WNOHANG)) {
		kill(s->pid, SIGKILL);
		service_run_reap(s, 0);
	}
	if (s->reaped && !s->looked && WIFSIGNALED(s->status) && is_of_a_bug(WTERMSIG(s->status)))
		(void)printf("not ok - process %d died: %s\n", (int)s->pid,
			strsignal(WTERMSIG(s->status)));
	if (s->directory[0])
		remove_directory(s->directory);
	*s = (struct service_run){0};
}

/* Never returns. */
static void run_child(
	const char *program, const char *const arguments[], int listen_fd, pid_t parent)
{
	const char *argv[ARGUMENTS_MAX + 4] = {program, "--listen-fd", "3"};
	size_t n = 3;

	for (size_t i = 0; arguments[i] && i < ARGUMENTS_MAX; i++)
		argv[n++] = arguments[i];
	/* the second look: the test may have ended before the first took effect */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
	/* dup2 on itself would leave it close-on-exec */
	if (listen_fd == CHILD_LISTEN_FD ? fcntl(listen_fd, F_SETFD, 0) < 0
					 : dup2(listen_fd, CHILD_LISTEN_FD) < 0)
		_exit(1);
	execv(program, (char *const *)argv);
	perror(program);
	_exit(1);
}

int service_run_start(struct service_run *s, const char *program, const char *const arguments[])
{
	_cleanup_close_ int listen_fd = -1;
	char path[PATH_MAX];
	pid_t parent = getpid();
	int r;

	r = service_run_build_path(program, path, sizeof(path));
	if (r < 0)
		return r;
	listen_fd = ipc_listen(s->socket, 0600);
	if (listen_fd < 0)
		return listen_fd;
	s->pid = fork();
	if (s->pid < 0)
		return -errno;
	if (s->pid == 0)
		run_child(path, arguments, listen_fd, parent);
	if (!runner && atexit(kill_running) == 0)
		runner = parent;
	note(0, s->pid);
	return 0;
}

int service_run_connect(const struct service_run *s)
{
	return ipc_connect(s->socket);
}

bool service_run_reap(struct service_run *s, int flags)
{
	if (!s->reaped && waitpid(s->pid, &s->status, flags) == s->pid) {
		s->reaped = true;
		note(s->pid, 0);
	}
	return s->reaped;
}

int service_run_wait_exit(struct service_run *s, unsigned timeout_ms, int *ret_status)
{
	uint64_t deadline = clock_monotonic_us() + timeout_ms * US_PER_MS;

	while (!service_run_reap(s, WNOHANG)) {
		if (clock_monotonic_us() >= deadline)
			return -ETIMEDOUT;
		clock_sleep_us(LOOK_US);
	}
	s->looked = true;
	*ret_status = s->status;
	return 0;
}
