/* The console file (console.h). The guest decides how much is written, so it must never fill the disk or block a vCPU. */
#include "kvm-glue/console.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "memd/base/fd.h"

struct console {
	int fd;
	uint64_t max_bytes; /* UINT64_MAX for standard output */
	pthread_mutex_t lock; /* what follows */
	uint64_t file_bytes;
	uint64_t dropped_bytes;
};

int console_new(const char *path, uint64_t max_bytes, struct console **ret, struct error *e)
{
	_cleanup_(console_freep) struct console *c = calloc(1, sizeof(*c));
	struct stat st;

	if (!c)
		return error_set(e, -ENOMEM, "out of memory");
	pthread_mutex_init(&c->lock, NULL);
	c->max_bytes = max_bytes;
	if (strcmp(path, "-") == 0) {
		c->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
		c->max_bytes = UINT64_MAX;
	} else {
		c->fd = open(path,
			O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
	}
	if (c->fd < 0)
		return error_set(e, -errno, "console %s: %s", path, strerror(errno));
	if (c->max_bytes != UINT64_MAX && fstat(c->fd, &st) == 0 && S_ISREG(st.st_mode))
		c->file_bytes = (uint64_t)st.st_size;
	*ret = TAKE_PTR(c);
	return 0;
}

void console_free(struct console *c)
{
	if (!c)
		return;
	cleanup_closep(&c->fd);
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

void console_write(struct console *c, const uint8_t *data, size_t bytes)
{
	ssize_t n;

	pthread_mutex_lock(&c->lock);
	make_room(c, bytes);
	do
		n = write(c->fd, data, bytes);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		c->file_bytes += (uint64_t)n;
	c->dropped_bytes += bytes - (n > 0 ? (size_t)n : 0);
	pthread_mutex_unlock(&c->lock);
}

uint64_t console_dropped_bytes(struct console *c)
{
	uint64_t dropped;

	pthread_mutex_lock(&c->lock);
	dropped = c->dropped_bytes;
	pthread_mutex_unlock(&c->lock);
	return dropped;
}
