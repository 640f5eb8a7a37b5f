/* See vmm-run.h. */
#include "tests/guest/vmm-run.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/procfs.h"

#define REPLY_TIMEOUT_US  (20 * US_PER_S) /* a machine busy with other tests, a sanitizer build */
#define LOOK_US		  (20 * US_PER_MS)
#define CONSOLE_BYTES_MAX (16 << 20)
#define CHILD_LISTEN_FD	  3

struct vmm_run {
	pid_t pid;
	bool reaped;
	int status; /* once reaped */
	int fd; /* the control socket */
	uint32_t seq;
	struct ipc_message *message;
	struct vmm_hello hello;
	struct vmm_event last_event;
	char directory[64];
	char console[96];
	char socket[96];
};

const char *vmm_run_unusable(void)
{
	_cleanup_close_ int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	return fd >= 0 ? NULL : errno == ENOENT ? "no /dev/kvm" : "/dev/kvm cannot be opened";
}

/* PATH/build/PRESET/tests/X/test -> PATH/build/PRESET/<relative> */
static int build_path(const char *relative, char *buffer, size_t size)
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

/* The child: never returns. It dies with the test, however that ends. */
static void run_child(const struct vmm_run *v, const struct vmm_run_options *o, const char *program,
	const char *kernel, int listen_fd, pid_t parent)
{
	char memory[24], vcpus[16];
	const char *argv[24] = {program, "--name", "test", "--memory", memory, "--vcpus", vcpus,
		"--kernel", kernel, "--console", v->console, "--listen-fd", "3"};
	size_t n = 13;

	(void)snprintf(memory, sizeof(memory), "%" PRIu64, o->memory_bytes);
	(void)snprintf(vcpus, sizeof(vcpus), "%u", o->n_vcpus);
	if (o->cmdline) {
		argv[n++] = "--cmdline";
		argv[n++] = o->cmdline;
	}
	if (o->initrd) {
		argv[n++] = "--initrd";
		argv[n++] = o->initrd;
	}
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

static bool reap(struct vmm_run *v, int flags)
{
	if (!v->reaped && waitpid(v->pid, &v->status, flags) == v->pid)
		v->reaped = true;
	return v->reaped;
}

static void take_event(struct vmm_run *v)
{
	const struct vmm_event *event = IPC_PAYLOAD(v->message, struct vmm_event);

	if (event)
		v->last_event = *event;
}

/*
 * Receives one message within the time; events are noted and passed over. 0, -ETIMEDOUT, -EPIPE,
 * errno.
 */
static int receive(struct vmm_run *v)
{
	uint64_t deadline = clock_monotonic_us() + REPLY_TIMEOUT_US;
	int r;

	for (;;) {
		struct pollfd p = {.fd = v->fd, .events = POLLIN};
		uint64_t now = clock_monotonic_us();

		if (now >= deadline || poll(&p, 1, (int)((deadline - now) / US_PER_MS)) == 0)
			return -ETIMEDOUT;
		r = ipc_recv(v->fd, v->message);
		if (r)
			return r == IPC_CLOSED ? -EPIPE : r;
		if (v->message->header.type != VMM_EVENT)
			return 0;
		take_event(v);
	}
}

static int receive_hello(struct vmm_run *v)
{
	const struct vmm_hello *hello;
	int r;

	r = receive(v);
	if (r < 0)
		return reap(v, WNOHANG) ? -ECHILD : r;
	hello = IPC_PAYLOAD(v->message, struct vmm_hello);
	if (v->message->header.type != VMM_HELLO || !hello || hello->n_ranges > VMM_RANGES_MAX)
		return -EPROTO;
	v->hello = *hello;
	return 0;
}

static int start_process(struct vmm_run *v, const struct vmm_run_options *o)
{
	_cleanup_close_ int listen_fd = -1;
	char program[PATH_MAX], kernel[PATH_MAX];
	pid_t parent = getpid();
	int r;

	r = build_path("kvm-glue/memd-vmm", program, sizeof(program));
	if (r == 0)
		r = build_path("tests/guest/memd-guest", kernel, sizeof(kernel));
	if (r < 0)
		return r;
	listen_fd = ipc_listen(v->socket, 0600);
	if (listen_fd < 0)
		return listen_fd;
	v->pid = fork();
	if (v->pid < 0)
		return -errno;
	if (v->pid == 0)
		run_child(v, o, program, o->kernel ? o->kernel : kernel, listen_fd, parent);
	return 0;
}

int vmm_run_start(const struct vmm_run_options *o, struct vmm_run **ret)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = NULL;
	int r;

	v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	v->fd = -1;
	v->last_event.state = VMM_STATE_RUNNING;
	v->message = ipc_message_new();
	if (!v->message)
		return -ENOMEM;
	(void)snprintf(v->directory, sizeof(v->directory), "/tmp/memd-vmm-run-XXXXXX");
	if (!mkdtemp(v->directory)) {
		v->directory[0] = '\0';
		return -errno;
	}
	(void)snprintf(v->console, sizeof(v->console), "%s/console", v->directory);
	(void)snprintf(v->socket, sizeof(v->socket), "%s/socket", v->directory);
	r = start_process(v, o);
	if (r < 0)
		return r;
	v->fd = ipc_connect(v->socket);
	if (v->fd < 0)
		return v->fd;
	r = receive_hello(v);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(v);
	return 0;
}

void vmm_run_free(struct vmm_run *v)
{
	if (!v)
		return;
	if (v->pid > 0 && !v->reaped) {
		kill(v->pid, SIGKILL);
		reap(v, 0);
	}
	cleanup_closep(&v->fd);
	ipc_message_free(v->message);
	if (v->directory[0]) {
		unlink(v->console);
		unlink(v->socket);
		rmdir(v->directory);
	}
	free(v);
}

pid_t vmm_run_pid(const struct vmm_run *v)
{
	return v->pid;
}

const struct vmm_hello *vmm_run_hello(const struct vmm_run *v)
{
	return &v->hello;
}

const char *vmm_run_console_path(const struct vmm_run *v)
{
	return v->console;
}

const char *vmm_run_socket_path(const struct vmm_run *v)
{
	return v->socket;
}

const struct vmm_event *vmm_run_last_event(const struct vmm_run *v)
{
	return &v->last_event;
}

/* The reply of that type to a request that was just sent. */
static int receive_reply(struct vmm_run *v, enum vmm_message_type type)
{
	int r;

	do
		r = receive(v);
	while (r == 0 && v->message->header.seq != v->seq);
	if (r == 0 && v->message->header.type != type)
		r = -EPROTO;
	return r;
}

int vmm_run_request(struct vmm_run *v, enum vmm_message_type type, const void *payload, size_t size)
{
	const struct vmm_done *done;
	int r;

	r = ipc_send(v->fd, type, ++v->seq, payload, size, NULL, 0);
	if (r == 0)
		r = receive_reply(v, VMM_DONE);
	if (r < 0)
		return r;
	done = IPC_PAYLOAD(v->message, struct vmm_done);
	return done ? done->result : -EPROTO;
}

int vmm_run_set_balloon(struct vmm_run *v, uint64_t target_pages)
{
	struct vmm_set_balloon set = {.target_pages = target_pages};

	return vmm_run_request(v, VMM_SET_BALLOON, &set, sizeof(set));
}

int vmm_run_get_stats(struct vmm_run *v, struct vmm_stats *ret)
{
	const struct vmm_stats *stats;
	int r;

	r = ipc_send(v->fd, VMM_GET_STATS, ++v->seq, NULL, 0, NULL, 0);
	if (r == 0)
		r = receive_reply(v, VMM_STATS);
	if (r < 0)
		return r;
	stats = IPC_PAYLOAD(v->message, struct vmm_stats);
	if (!stats)
		return -EPROTO;
	*ret = *stats;
	return 0;
}

char *vmm_run_console(const struct vmm_run *v)
{
	char *text = NULL;
	size_t size;

	return fd_read_file_at(AT_FDCWD, v->console, CONSOLE_BYTES_MAX, &text, &size) < 0 ? NULL
											  : text;
}

bool vmm_run_wait_text(struct vmm_run *v, const char *text, unsigned timeout_ms)
{
	uint64_t deadline = clock_monotonic_us() + timeout_ms * US_PER_MS;

	for (;;) {
		bool ended = reap(v, WNOHANG); /* before the look: what it wrote last counts */
		_cleanup_free_ char *console = vmm_run_console(v);

		if (console && strstr(console, text))
			return true;
		if (ended || clock_monotonic_us() >= deadline)
			return false;
		clock_sleep_us(LOOK_US);
	}
}

uint64_t vmm_run_value(struct vmm_run *v, const char *name, uint64_t fallback)
{
	_cleanup_free_ char *console = vmm_run_console(v);
	char key[64];
	char *end = console ? strrchr(console, '\n') : NULL;
	const char *found = NULL;

	if (!end)
		return fallback;
	*end = '\0';
	(void)snprintf(key, sizeof(key), " %s=", name);
	for (const char *p = strstr(console, key); p; p = strstr(p + 1, key))
		found = p;
	return found ? strtoull(found + strlen(key), NULL, 10) : fallback;
}

bool vmm_run_wait_value(struct vmm_run *v, const char *name, uint64_t least, unsigned timeout_ms)
{
	uint64_t deadline = clock_monotonic_us() + timeout_ms * US_PER_MS;

	for (;;) {
		bool ended = reap(v, WNOHANG);
		uint64_t value = vmm_run_value(v, name, UINT64_MAX);

		if (value != UINT64_MAX && value >= least)
			return true;
		if (ended || clock_monotonic_us() >= deadline)
			return false;
		clock_sleep_us(LOOK_US);
	}
}

int vmm_run_wait_exit(struct vmm_run *v, unsigned timeout_ms, int *ret_status)
{
	uint64_t deadline = clock_monotonic_us() + timeout_ms * US_PER_MS;

	while (!reap(v, WNOHANG)) {
		if (clock_monotonic_us() >= deadline)
			return -ETIMEDOUT;
		clock_sleep_us(LOOK_US);
	}
	*ret_status = v->status;
	return 0;
}

uint64_t vmm_run_anonymous_bytes(const struct vmm_run *v)
{
	struct smaps_rollup rollup;

	return procfs_read_smaps_rollup(v->pid, &rollup) < 0 ? 0 : rollup.anonymous_bytes;
}

int vmm_run_poke(const struct vmm_run *v, uint64_t gpa, const void *bytes, size_t size)
{
	_cleanup_close_ int fd = -1;
	char path[32];

	for (uint32_t i = 0; i < v->hello.n_ranges; i++) {
		const struct vmm_range *range = &v->hello.ranges[i];

		if (gpa < range->gpa || gpa - range->gpa >= range->bytes ||
			size > range->bytes - (gpa - range->gpa))
			continue;
		(void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)v->pid);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		return fd_pwrite_full(fd, bytes, size, (off_t)(range->hva + (gpa - range->gpa)));
	}
	return -EFAULT;
}
