/* See vmm-run.h. */
#include "tests/guest/vmm-run.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/units.h"
#include "tests/guest/service-run.h"

#define REPLY_TIMEOUT_US  (20 * US_PER_S) /* a machine busy with other tests, a sanitizer build */
#define ARGUMENTS_MAX	  32 /* of service-run.c */
#define LOOK_US		  (20 * US_PER_MS)
#define CONSOLE_BYTES_MAX (16 << 20)
#define SMAPS_BYTES_MAX	  (64 << 20)

struct vmm_run {
	struct service_run service;
	int fd; /* the control socket */
	uint32_t seq;
	struct ipc_message *message;
	struct vmm_hello hello;
	struct vmm_event last_event;
	char console[96];
	char console_socket[96]; /* interactive: what arrives there is copied to the file */
	int console_fd;
	pthread_t copier;
	bool copying;
};

const char *vmm_run_unusable(void)
{
	_cleanup_close_ int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	return fd >= 0 ? NULL : errno == ENOENT ? "no /dev/kvm" : "/dev/kvm cannot be opened";
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
		return service_run_reap(&v->service, WNOHANG) ? -ECHILD : r;
	hello = IPC_PAYLOAD(v->message, struct vmm_hello);
	if (v->message->header.type != VMM_HELLO || !hello || hello->n_ranges > VMM_RANGES_MAX)
		return -EPROTO;
	v->hello = *hello;
	return 0;
}

static int start_process(struct vmm_run *v, const struct vmm_run_options *o)
{
	char kernel[PATH_MAX], memory[24], vcpus[16], console[104], template_fd[16];
	const char *restore[] = {"--name", "test", "--snapshot", o->snapshot, "--console",
		v->console, o->template_fd > 0 ? "--template-fd" : NULL, template_fd, NULL};
	const char *arguments[ARGUMENTS_MAX + 1] = {"--name", "test", "--memory", memory, "--vcpus",
		vcpus, "--console", console, "--kernel", o->kernel ? o->kernel : kernel, "--boot",
		o->boot ? o->boot : "auto", "--cmdline", o->cmdline ? o->cmdline : "",
		o->initrd ? "--initrd" : NULL, o->initrd, NULL};
	size_t n = 0;
	int r;

	(void)snprintf(console, sizeof(console), "%s%s", o->interactive ? "unix:" : "",
		o->interactive ? v->console_socket : v->console);
	while (arguments[n])
		n++;
	for (size_t i = 0; o->arguments && o->arguments[i]; i++) {
		if (n == ARGUMENTS_MAX)
			return -E2BIG;
		arguments[n++] = o->arguments[i];
	}

	r = service_run_build_path("tests/guest/memd-guest", kernel, sizeof(kernel));
	if (r < 0)
		return r;
	(void)snprintf(template_fd, sizeof(template_fd), "%d", o->template_fd);
	(void)snprintf(memory, sizeof(memory), "%" PRIu64, o->memory_bytes);
	(void)snprintf(vcpus, sizeof(vcpus), "%u", o->n_vcpus);
	return service_run_start(
		&v->service, "kvm-glue/memd-vmm", o->snapshot ? restore : arguments);
}

/* Ends when the process, and with it the socket, does. */
static void *copy_console(void *arg)
{
	struct vmm_run *v = arg;
	_cleanup_close_ int file =
		open(v->console, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	char text[4096];
	ssize_t n;

	while ((n = read(v->console_fd, text, sizeof(text))) > 0)
		if (fd_write_full(file, text, (size_t)n) < 0)
			break;
	return NULL;
}

static int connect_console(struct vmm_run *v)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	v->console_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (v->console_fd < 0)
		return -errno;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", v->console_socket);
	if (connect(v->console_fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	v->copying = pthread_create(&v->copier, NULL, copy_console, v) == 0;
	return v->copying ? 0 : -EAGAIN;
}

int vmm_run_type(struct vmm_run *v, const char *text)
{
	return fd_write_full(v->console_fd, text, strlen(text));
}

int vmm_run_start(const struct vmm_run_options *o, struct vmm_run **ret)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = NULL;
	int r;

	v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	v->fd = v->console_fd = -1;
	v->last_event.state = VMM_STATE_RUNNING;
	v->message = ipc_message_new();
	if (!v->message)
		return -ENOMEM;
	r = service_run_init(&v->service);
	if (r < 0)
		return r;
	(void)snprintf(v->console, sizeof(v->console), "%s/console", v->service.directory);
	(void)snprintf(
		v->console_socket, sizeof(v->console_socket), "%s/input", v->service.directory);
	r = start_process(v, o);
	if (r < 0)
		return r;
	v->fd = service_run_connect(&v->service);
	if (v->fd < 0)
		return v->fd;
	r = receive_hello(v);
	if (r == 0 && o->interactive)
		r = connect_console(v);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(v);
	return 0;
}

void vmm_run_free(struct vmm_run *v)
{
	if (!v)
		return;
	if (v->copying) {
		shutdown(v->console_fd, SHUT_RDWR);
		pthread_join(v->copier, NULL);
	}
	service_run_done(&v->service);
	cleanup_closep(&v->fd);
	cleanup_closep(&v->console_fd);
	ipc_message_free(v->message);
	free(v);
}

pid_t vmm_run_pid(const struct vmm_run *v)
{
	return v->service.pid;
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
	return v->service.socket;
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

static int request(struct vmm_run *v, enum vmm_message_type type, const void *payload, size_t size,
	const int *fds, size_t n_fds)
{
	const struct vmm_done *done;
	int r;

	r = ipc_send(v->fd, type, ++v->seq, payload, size, fds, n_fds);
	if (r == 0)
		r = receive_reply(v, VMM_DONE);
	if (r < 0)
		return r;
	done = IPC_PAYLOAD(v->message, struct vmm_done);
	return done ? done->result : -EPROTO;
}

int vmm_run_request(struct vmm_run *v, enum vmm_message_type type, const void *payload, size_t size)
{
	return request(v, type, payload, size, NULL, 0);
}

int vmm_run_attach_pool(struct vmm_run *v, int pool_fd)
{
	return request(v, VMM_ATTACH_POOL, NULL, 0, &pool_fd, 1);
}

static int new_file(const char *directory, const char *name)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/%s", directory, name);
	int fd = n < 0 || n >= (int)sizeof(path)
			 ? -1
			 : open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

int vmm_run_snapshot(struct vmm_run *v, const char *directory)
{
	_cleanup_close_ int state_fd = new_file(directory, "state");
	_cleanup_close_ int ram_fd = new_file(directory, "ram");
	int fds[2] = {state_fd, ram_fd};

	if (state_fd < 0 || ram_fd < 0)
		return state_fd < 0 ? state_fd : ram_fd;
	return request(v, VMM_SNAPSHOT, NULL, 0, fds, 2);
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

	if (fd_read_file_at(AT_FDCWD, v->console, CONSOLE_BYTES_MAX, &text, &size) < 0)
		return NULL;
	for (size_t i = 0; i < size; i++) {
		if ((text[i] < ' ' && text[i] != '\n') || text[i] > '~')
			text[i] = '?';
	}
	return text;
}

bool vmm_run_wait_text(struct vmm_run *v, const char *text, unsigned timeout_ms)
{
	uint64_t deadline = clock_monotonic_us() + timeout_ms * US_PER_MS;

	for (;;) {
		bool ended = service_run_reap(
			&v->service, WNOHANG); /* before the look: what it wrote last counts */
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
		bool ended = service_run_reap(&v->service, WNOHANG);
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
	return service_run_wait_exit(&v->service, timeout_ms, ret_status);
}

/* Whether the guest's RAM is at that address of memd-vmm. */
static bool is_ram(const struct vmm_run *v, uint64_t hva)
{
	for (uint32_t i = 0; i < v->hello.n_ranges; i++)
		if (hva - v->hello.ranges[i].hva < v->hello.ranges[i].bytes)
			return true;
	return false;
}

uint64_t vmm_run_anonymous_bytes(const struct vmm_run *v)
{
	_cleanup_free_ char *text = NULL;
	uint64_t sum = 0, kib;
	char path[32], *save = NULL;
	bool of_ram = false;

	(void)snprintf(path, sizeof(path), "/proc/%d/smaps", (int)v->service.pid);
	if (fd_read_file_at(AT_FDCWD, path, SMAPS_BYTES_MAX, &text, NULL) < 0)
		return 0;
	/* a line with the addresses of a mapping, then lines with its figures */
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		uint64_t begin, end;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &begin, &end) == 2)
			of_ram = is_ram(v, begin);
		else if (of_ram && sscanf(line, "Anonymous: %" SCNu64, &kib) == 1)
			sum += kib * KIB;
	}
	return sum;
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
		(void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)v->service.pid);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		return fd_pwrite_full(fd, bytes, size, (off_t)(range->hva + (gpa - range->gpa)));
	}
	return -EFAULT;
}
