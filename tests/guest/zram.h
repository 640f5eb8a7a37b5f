/*
 * A swap device for one test: zram of its own, compressed by lzo-rle, taken away again however the
 * test ends. A child process waits on a pipe until the test is gone (killed too), and then cleans
 * up. Needs root; a test that cannot have it says so and goes on without.
 */
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memd/base/fd.h"
#include "memd/base/units.h"

struct zram_swap {
	int number; /* /dev/zramN, -1: none */
	int alive_fd; /* closed: the guardian cleans up */
	pid_t guardian;
};
#define ZRAM_SWAP_NONE ((struct zram_swap){.number = -1, .alive_fd = -1, .guardian = -1})

static inline int zram_write_sysfs(int number, const char *file, const char *text)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/block/zram%d/%s", number, file);
	return fd_write_file_at(AT_FDCWD, path, text);
}

static inline void zram_remove(int number)
{
	char text[32];

	snprintf(text, sizeof(text), "/dev/zram%d", number);
	swapoff(text);
	zram_write_sysfs(number, "reset", "1");
	snprintf(text, sizeof(text), "%d", number);
	fd_write_file_at(AT_FDCWD, "/sys/class/zram-control/hot_remove", text);
}

/* The header that mkswap(8) writes, version 1. */
static inline int zram_write_swap_header(const char *device, uint64_t bytes)
{
	uint8_t page[PAGE_BYTES] = {0};
	const uint32_t fields[2] = {1, (uint32_t)(bytes / PAGE_BYTES - 1)}; /* version, last page */
	_cleanup_close_ int fd = open(device, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	memcpy(page + 1024, fields, sizeof(fields));
	memcpy(page + PAGE_BYTES - 10, "SWAPSPACE2", 10);
	return fd_pwrite_full(fd, page, sizeof(page), 0);
}

static inline int zram_swap_start(struct zram_swap *z, uint64_t bytes, int priority)
{
	char text[32], device[32];
	int pipe_fds[2], r;

	snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes);
	snprintf(device, sizeof(device), "/dev/zram%d", z->number);
	r = zram_write_sysfs(z->number, "disksize", text);
	if (r == 0)
		r = zram_write_swap_header(device, bytes);
	if (r < 0)
		return r;
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	z->guardian = fork();
	if (z->guardian == 0) {
		char c;

		setsid(); /* a signal to the test's terminal group is not for the guardian */
		close(pipe_fds[1]);
		while (read(pipe_fds[0], &c, 1) < 0 && errno == EINTR)
			;
		zram_remove(z->number);
		_exit(0);
	}
	r = z->guardian < 0 ? -errno : 0;
	close(pipe_fds[0]);
	z->alive_fd = pipe_fds[1];
	if (r == 0 && swapon(device, SWAP_FLAG_PREFER | priority) < 0)
		r = -errno;
	return r;
}

static inline void zram_swap_done(struct zram_swap *z)
{
	if (z->guardian > 0) {
		close(z->alive_fd);
		waitpid(z->guardian, NULL, 0);
	} else if (z->number >= 0) {
		zram_remove(z->number);
	}
	*z = ZRAM_SWAP_NONE;
}

/*
 * Swap of that many bytes on a zram device of our own, used before those of lower priority. Negative
 * errno: there is none, nothing to undo.
 */
static inline int zram_swap_init_before(struct zram_swap *z, uint64_t bytes, int priority)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	int r = fd_read_file_at(AT_FDCWD, "/sys/class/zram-control/hot_add", 16, &text, &size);

	*z = ZRAM_SWAP_NONE;
	if (r < 0)
		return r;
	z->number = atoi(text);
	r = zram_swap_start(z, bytes, priority);
	if (r < 0)
		zram_swap_done(z);
	return r;
}

static inline int zram_swap_init(struct zram_swap *z, uint64_t bytes)
{
	return zram_swap_init_before(z, bytes, 100);
}
