/*
 * The console's back ends (console.h). The guest decides how much is written, so it must never fill
 * the disk or block a vCPU; whoever types decides how much there is to read, so no more than
 * INPUT_BYTES of it are kept: the rest waits in the terminal or the socket. What a terminal or a
 * socket does not take at once is kept too, up to KEPT_BYTES, for the thread to hand on.
 */
#include "kvm-glue/console.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>

#include "memd/base/fd.h"
#include "memd/base/ipc.h"
#include "memd/base/overflow.h"

#define INPUT_BYTES 4096
#define KEPT_BYTES  (256 * 1024) /* a kernel prints its whole log at once when a console comes up */

struct console {
	int fd; /* output, and input when there is some; of a socket the client, -1: none */
	int terminal_fd; /* the other end of a pseudo terminal: without one, reads of it fail */
	int listen_fd; /* -1: no socket */
	bool has_input;
	int wake_fd;
	pthread_t thread;
	bool thread_started;
	_Atomic bool quit;
	struct {
		void (*ready)(void *context);
		void *context;
	} listeners[CONSOLE_PORTS];
	uint64_t max_bytes; /* of the file; UINT64_MAX where nothing is kept */

	pthread_mutex_t lock; /* what follows, and fd */
	uint64_t file_bytes;
	uint64_t dropped_bytes;
	enum console_port target; /* printed on last */
	size_t input_at, input_end; /* what is left of input */
	uint8_t input[INPUT_BYTES];
	size_t n_kept; /* bytes of output */
	uint8_t *kept; /* KEPT_BYTES; NULL before the first */
};

static int open_file(struct console *c, const char *path)
{
	struct stat st;

	c->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
	if (c->fd < 0)
		return -errno;
	if (fstat(c->fd, &st) == 0 && S_ISREG(st.st_mode))
		c->file_bytes = (uint64_t)st.st_size;
	return 0;
}

/* Raw, so that what the guest and its user say arrives as it is. */
static int open_terminal(struct console *c, const char *path)
{
	struct termios settings;
	char name[64];
	struct stat st;

	c->fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (c->fd < 0 || grantpt(c->fd) < 0 || unlockpt(c->fd) < 0 ||
		ptsname_r(c->fd, name, sizeof(name)) != 0)
		return -errno;
	c->terminal_fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (c->terminal_fd < 0 || tcgetattr(c->terminal_fd, &settings) < 0)
		return -errno;
	cfmakeraw(&settings);
	if (tcsetattr(c->terminal_fd, TCSANOW, &settings) < 0)
		return -errno;
	if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
		unlink(path); /* of a former guest; symlink says when that failed */
	return symlink(name, path) < 0 ? -errno : 0;
}

static int open_backend(struct console *c, const char *spec, uint64_t max_bytes)
{
	c->max_bytes = UINT64_MAX;
	if (strcmp(spec, "-") == 0) {
		c->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
		return c->fd < 0 ? -errno : 0;
	}
	if (strncmp(spec, "pty:", 4) == 0) {
		c->has_input = true;
		return open_terminal(c, spec + 4);
	}
	if (strncmp(spec, "unix:", 5) == 0) {
		c->has_input = true;
		c->listen_fd = ipc_listen_stream(spec + 5, 0600);
		return c->listen_fd < 0 ? c->listen_fd : 0;
	}
	c->max_bytes = max_bytes;
	return open_file(c, spec);
}

int console_new(const char *spec, uint64_t max_bytes, struct console **ret, struct error *e)
{
	_cleanup_(console_freep) struct console *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return error_set(e, -ENOMEM, "out of memory");
	pthread_mutex_init(&c->lock, NULL);
	c->fd = c->terminal_fd = c->listen_fd = -1;
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->wake_fd < 0)
		return error_set(e, -errno, "eventfd: %s", strerror(errno));
	r = open_backend(c, spec, max_bytes);
	if (r < 0)
		return error_set(e, r, "console %s: %s", spec, strerror(-r));
	*ret = TAKE_PTR(c);
	return 0;
}

void console_free(struct console *c)
{
	if (!c)
		return;
	console_halt(c);
	cleanup_closep(&c->fd);
	cleanup_closep(&c->terminal_fd);
	cleanup_closep(&c->listen_fd);
	cleanup_closep(&c->wake_fd);
	free(c->kept);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* Starts the file anew when it would grow too large; not for a pipe or terminal, where it does nothing. */
static void make_room(struct console *c, size_t bytes)
{
	if (c->file_bytes + bytes <= c->max_bytes || ftruncate(c->fd, 0) < 0)
		return;
	c->dropped_bytes += c->file_bytes;
	c->file_bytes = 0;
}

static ssize_t write_out(struct console *c, const uint8_t *data, size_t bytes)
{
	if (c->fd < 0)
		return -1;
	return c->listen_fd < 0 ? write(c->fd, data, bytes)
				: send(c->fd, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Keeps what was not taken, as far as there is room and a thread; how much. */
static size_t keep(struct console *c, const uint8_t *data, size_t bytes)
{
	size_t n;

	if (!c->thread_started || c->fd < 0 || bytes == 0)
		return 0;
	if (!c->kept)
		c->kept = malloc(KEPT_BYTES);
	if (!c->kept)
		return 0;
	n = u64_min(bytes, KEPT_BYTES - c->n_kept);
	memcpy(c->kept + c->n_kept, data, n);
	c->n_kept += n;
	return n;
}

/* Hands on what was kept. */
static void flush_kept(struct console *c)
{
	ssize_t n;

	pthread_mutex_lock(&c->lock);
	n = c->n_kept > 0 ? write_out(c, c->kept, c->n_kept) : 0;
	if (n > 0) {
		c->n_kept -= (size_t)n;
		memmove(c->kept, c->kept + n, c->n_kept);
	}
	pthread_mutex_unlock(&c->lock);
}

void console_write(struct console *c, enum console_port port, const uint8_t *data, size_t bytes)
{
	bool moved, first_kept;
	size_t taken;
	ssize_t n;

	pthread_mutex_lock(&c->lock);
	moved = c->target != port && c->input_at < c->input_end;
	c->target = port;
	make_room(c, bytes);
	do
		n = c->n_kept > 0 ? 0 : write_out(c, data, bytes);
	while (n < 0 && errno == EINTR);
	taken = n > 0 ? (size_t)n : 0;
	c->file_bytes += taken;
	first_kept = c->n_kept == 0;
	taken += keep(c, data + taken, bytes - taken);
	first_kept &= c->n_kept > 0;
	c->dropped_bytes += bytes - taken;
	pthread_mutex_unlock(&c->lock);
	if (moved || first_kept)
		eventfd_write(c->wake_fd,
			1); /* the other port has input now, or there is something to hand on */
}

uint64_t console_dropped_bytes(struct console *c)
{
	uint64_t dropped;

	pthread_mutex_lock(&c->lock);
	dropped = c->dropped_bytes;
	pthread_mutex_unlock(&c->lock);
	return dropped;
}

/* --- input */

bool console_has_input(struct console *c, enum console_port port)
{
	bool has;

	pthread_mutex_lock(&c->lock);
	has = c->target == port && c->input_at < c->input_end;
	pthread_mutex_unlock(&c->lock);
	return has;
}

size_t console_read(struct console *c, enum console_port port, uint8_t *ret, size_t max)
{
	size_t n = 0;
	bool empty = false;

	pthread_mutex_lock(&c->lock);
	if (c->target == port && c->input_at < c->input_end) {
		n = u64_min(max, c->input_end - c->input_at);
		memcpy(ret, c->input + c->input_at, n);
		c->input_at += n;
		empty = c->input_at == c->input_end;
	}
	pthread_mutex_unlock(&c->lock);
	if (empty)
		eventfd_write(c->wake_fd, 1); /* there is room again */
	return n;
}

/* A new client takes the place of the former, and what that one typed is forgotten. */
static void accept_client(struct console *c)
{
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	pthread_mutex_lock(&c->lock);
	cleanup_closep(&c->fd);
	c->fd = fd;
	c->input_at = c->input_end = 0;
	c->dropped_bytes += c->n_kept;
	c->n_kept = 0;
	pthread_mutex_unlock(&c->lock);
}

/* Fills the input when it is empty. Whose it is, is told. */
static void take_input(struct console *c)
{
	ssize_t n = 0;

	pthread_mutex_lock(&c->lock);
	if (c->fd >= 0 && c->input_at == c->input_end) {
		n = read(c->fd, c->input, sizeof(c->input));
		c->input_at = 0;
		c->input_end = n > 0 ? (size_t)n : 0;
		if (c->listen_fd >= 0 && (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))) {
			cleanup_closep(&c->fd); /* the client is gone */
			c->fd = -1;
			c->dropped_bytes += c->n_kept;
			c->n_kept = 0;
		}
	}
	pthread_mutex_unlock(&c->lock);
}

static void tell(struct console *c)
{
	for (unsigned port = 0; port < CONSOLE_PORTS; port++)
		if (c->listeners[port].ready && console_has_input(c, port))
			c->listeners[port].ready(c->listeners[port].context);
}

static bool has_kept(struct console *c)
{
	bool has;

	pthread_mutex_lock(&c->lock);
	has = c->n_kept > 0;
	pthread_mutex_unlock(&c->lock);
	return has;
}

static void *thread_main(void *arg)
{
	struct console *c = arg;

	pthread_setname_np(pthread_self(), "console");
	while (!atomic_load(&c->quit)) {
		struct pollfd fds[] = {
			{.fd = c->wake_fd, .events = POLLIN},
			{.fd = c->listen_fd, .events = POLLIN},
			{.fd = c->fd, .events = POLLIN}, /* only this thread changes it */
		};
		eventfd_t count;

		if (console_has_input(c, CONSOLE_SERIAL) || console_has_input(c, CONSOLE_VIRTIO))
			fds[2].events = 0;
		if (has_kept(c))
			fds[2].events |= POLLOUT;
		if (fds[2].events == 0)
			fds[2].fd = -1;
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			continue;
		if (fds[0].revents)
			eventfd_read(c->wake_fd, &count);
		if (fds[2].revents & POLLOUT)
			flush_kept(c);
		if (fds[2].revents & ~POLLOUT)
			take_input(c);
		if (fds[1].revents)
			accept_client(c);
		tell(c);
	}
	return NULL;
}

void console_listen(
	struct console *c, enum console_port port, void (*ready)(void *context), void *context)
{
	c->listeners[port].ready = ready;
	c->listeners[port].context = context;
}

int console_run(struct console *c)
{
	sigset_t all, old;
	int r;

	if (!c->has_input)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&c->thread, NULL, thread_main, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	c->thread_started = r == 0;
	return -r;
}

void console_halt(struct console *c)
{
	if (!c->thread_started)
		return;
	atomic_store(&c->quit, true);
	eventfd_write(c->wake_fd, 1);
	pthread_join(c->thread, NULL);
	c->thread_started = false;
}
