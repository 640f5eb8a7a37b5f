/*
 * memd-vmm: one guest. Opens what it needs, drops its privileges, builds the machine, shuts itself in, and serves memd until
 * the guest ends. The process is the guest: whatever happens to it, nobody else notices.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kvm-glue/control.h"
#include "kvm-glue/sandbox.h"
#include "memd/base/fd.h"
#include "memd/base/ipc.h"
#include "memd/base/log.h"

#define EXIT_START_FAILED 1
/* Threads that wait for memory in the kernel may never end; the process then ends without them. */
#define TEAR_DOWN_S	  5

static volatile sig_atomic_t exit_status;

static void give_up(int signal)
{
	_exit(exit_status);
}

/* Says why the guest cannot start: to the log, and in one line to memd. */
static int start_failed(const struct options *o, const struct error *e)
{
	char line[sizeof(e->text) + 1];
	int n = snprintf(line, sizeof(line), "%s\n", e->text);

	log_error("%s", e->text);
	if (o->error_fd >= 0 && n > 0)
		fd_write_full(o->error_fd, line, (size_t)n);
	return EXIT_START_FAILED;
}

static int listen_on(const struct options *o, int *ret_fd, struct error *e)
{
	int fd = o->listen_fd, listening = 0;
	socklen_t size = sizeof(listening);

	if (fd >= 0 &&
		(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0 || !listening))
		return error_set(e, -EINVAL, "--listen-fd %d is no listening socket", fd);
	if (o->socket_path) {
		fd = ipc_listen(o->socket_path, 0600);
		if (fd < 0)
			return error_set(e, fd, "socket %s: %s", o->socket_path, strerror(-fd));
	}
	*ret_fd = fd;
	return 0;
}

static int start(const struct options *o, struct vmm **ret, int *ret_listen_fd, struct error *e)
{
	_cleanup_(vmm_freep) struct vmm *vmm = NULL;
	int keep[] = {o->listen_fd, o->error_fd, o->template_fd};
	int r;

	r = sandbox_close_stray(keep, ARRAY_SIZE(keep), e);
	if (r < 0)
		return r;
	r = vmm_open(o, &vmm, e);
	if (r < 0)
		return r;
	r = listen_on(o, ret_listen_fd, e);
	if (r < 0)
		return r;
	sandbox_isolate();
	r = sandbox_drop_privileges(e);
	if (r < 0)
		return r;
	r = vmm_build(vmm, e);
	if (r < 0)
		return r;
	r = sandbox_filter(vmm->devices, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(vmm);
	return 0;
}

int main(int argc, char *argv[])
{
	struct options options;
	struct error e = {0};
	struct vmm *vmm = NULL;
	char ident[32 + VMM_NAME_MAX];
	int r, listen_fd = -1;

	r = options_parse(argc, argv, &options, &e);
	snprintf(ident, sizeof(ident), "memd-vmm %s", options.name ? options.name : "");
	log_open(ident);
	if (r == OPTIONS_HELP)
		return EXIT_SUCCESS;
	if (r < 0)
		return start_failed(&options, &e);
	signal(SIGPIPE, SIG_IGN); /* a console pipe whose reader went away */
	r = start(&options, &vmm, &listen_fd, &e);
	if (r < 0)
		return start_failed(&options, &e);
	cleanup_closep(&options.error_fd); /* memd reads the end of it: the guest runs */
	exit_status = control_run(vmm, listen_fd);
	signal(SIGALRM, give_up);
	alarm(TEAR_DOWN_S);
	vmm_free(vmm);
	return exit_status;
}
