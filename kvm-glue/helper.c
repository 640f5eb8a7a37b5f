/* See helper.h. */
#include "kvm-glue/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "memd/base/cleanup.h"

#define ABOVE_ALL 10 /* above the descriptors of the program */

static int find_program(const char *program, char ret[PATH_MAX], struct error *e)
{
	ssize_t n = readlink("/proc/self/exe", ret, PATH_MAX - 1);
	char *name;

	if (n < 0)
		return error_set(e, -errno, "/proc/self/exe: %s", strerror(errno));
	ret[n] = '\0';
	name = strrchr(ret, '/') + 1;
	if ((size_t)snprintf(name, (size_t)(ret + PATH_MAX - name), "%s", program) >=
		(size_t)(ret + PATH_MAX - name))
		return error_set(e, -ENAMETOOLONG, "%s: its path is too long", program);
	if (access(ret, X_OK) < 0)
		return error_set(e, -errno, "%s: %s", ret, strerror(errno));
	return 0;
}

/* In the child. */
static void run(char *const *argv, int fd, int second_fd)
{
	static char *const no_environment[] = {NULL};
	int first = fcntl(fd, F_DUPFD_CLOEXEC, ABOVE_ALL);
	int second = second_fd < 0 ? -1 : fcntl(second_fd, F_DUPFD_CLOEXEC, ABOVE_ALL);

	if (dup2(first, HELPER_FD) < 0 || (second_fd >= 0 && dup2(second, HELPER_SECOND_FD) < 0))
		_exit(127);
	execve(argv[0], argv, no_environment);
	_exit(127);
}

int helper_start(const char *program, char *argv[], int second_fd, int *ret_fd, struct error *e)
{
	_cleanup_close_ int ours = -1;
	char path[PATH_MAX], ready;
	int fds[2], r;
	pid_t pid;

	r = find_program(program, path, e);
	if (r < 0)
		return r;
	argv[0] = path;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return error_set(e, -errno, "socket pair: %s", strerror(errno));
	ours = fds[0];
	pid = fork();
	if (pid == 0)
		run(argv, fds[1], second_fd);
	r = -errno;
	close(fds[1]);
	if (pid < 0)
		return error_set(e, r, "fork: %s", strerror(-r));
	/* It ends when it cannot do what it was told, and with it the other end of the socket. */
	if (recv(ours, &ready, sizeof(ready), 0) != HELPER_READY)
		return error_set(e, -ECHILD, "%s did not start; its log says why", program);
	*ret_fd = TAKE_FD(ours);
	return 0;
}
