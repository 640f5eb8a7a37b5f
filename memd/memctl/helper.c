/* See helper.h. */
#include "memd/memctl/helper.h"

#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>

#include "memd/base/cleanup.h"

static void run(char *const *argv, int input, int output, const int *fds, size_t n)
{
	if (input >= 0 && dup2(input, STDIN_FILENO) < 0)
		_exit(127);
	if (output >= 0 && dup2(output, STDOUT_FILENO) < 0)
		_exit(127);
	for (size_t i = 0; i < n; i++)
		fcntl(fds[i], F_SETFD, 0);
	execvp(argv[0], argv);
	fprintf(stderr, "memctl: cannot start %s: %m\n", argv[0]);
	_exit(127);
}

int helper_start(struct helper *h, char *const *argv, int input, const int *fds, size_t n,
	enum helper_output output)
{
	_cleanup_close_ int read_fd = -1, write_fd = -1;
	int ends[2];

	*h = (struct helper){0};
	if (output == HELPER_OUTPUT_READ) {
		if (pipe2(ends, O_CLOEXEC) < 0)
			return -errno;
		read_fd = ends[0];
		write_fd = ends[1];
		h->out = fdopen(read_fd, "r");
		if (!h->out)
			return -errno;
		TAKE_FD(read_fd);
	}
	fflush(stdout);
	h->pid = fork();
	if (h->pid == 0)
		run(argv, input, write_fd, fds, n);
	if (h->pid < 0) {
		int r = -errno;

		cleanup_fclosep(&h->out);
		h->out = NULL;
		return r;
	}
	return 0;
}

int helper_end(struct helper *h)
{
	char rest[4096];
	int status;

	while (h->out && fread(rest, 1, sizeof(rest), h->out) > 0)
		continue;
	cleanup_fclosep(&h->out);
	h->out = NULL;
	while (waitpid(h->pid, &status, 0) < 0)
		if (errno != EINTR)
			return 127;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
