/*
 * Whole reads and writes, small files of procfs and sysfs, pidfds. Never keeps a descriptor of its
 * own and never sends a signal by number: a pidfd cannot hit a process that took the number over.
 */
#include "memd/base/fd.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/uio.h>

int fd_read_file_at(
	int dir_fd, const char *path, size_t max_bytes, char **ret_text, size_t *ret_size)
{
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *text = NULL;
	size_t used = 0, room = max_bytes < 4096 ? max_bytes + 1 : 4096;

	fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	text = malloc(room + 1);
	if (!text)
		return -ENOMEM;
	for (;;) {
		ssize_t n = read(fd, text + used, room - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		used += (size_t)n;
		if (used > max_bytes)
			return -E2BIG;
		if (used == room) {
			char *larger;

			room = room > max_bytes / 2 ? max_bytes + 1 : room * 2;
			larger = realloc(text, room + 1);
			if (!larger)
				return -ENOMEM;
			text = larger;
		}
	}
	text[used] = '\0';
	if (ret_size)
		*ret_size = used;
	*ret_text = TAKE_PTR(text);
	return 0;
}

int fd_write_file_at(int dir_fd, const char *path, const char *text)
{
	_cleanup_close_ int fd = -1;
	size_t size = strlen(text);
	ssize_t n;

	fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	do
		n = write(fd, text, size);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == size ? 0 : -EIO;
}

int fd_replace_file(const char *path, const char *text)
{
	_cleanup_free_ char *temporary = NULL;
	_cleanup_close_ int fd = -1;
	int r;

	if (asprintf(&temporary, "%s.new", path) < 0) {
		temporary = NULL;
		return -ENOMEM;
	}
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
	if (fd < 0)
		return -errno;
	r = fd_write_full(fd, text, strlen(text));
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(temporary);
	return r;
}

/* One system call of a transfer; those without an offset ignore it. */
typedef ssize_t transfer_step(int fd, void *buffer, size_t size, off_t offset);

static ssize_t step_read(int fd, void *buffer, size_t size, off_t offset)
{
	return read(fd, buffer, size);
}

static ssize_t step_write(int fd, void *buffer, size_t size, off_t offset)
{
	return write(fd, buffer, size);
}

static ssize_t step_pwrite(int fd, void *buffer, size_t size, off_t offset)
{
	return pwrite(fd, buffer, size, offset);
}

static int transfer_full(transfer_step *step, int fd, void *buffer, size_t size, off_t offset)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = step(fd, (char *)buffer + done, size - done, offset + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		done += (size_t)n;
	}
	return 0;
}

int fd_read_full(int fd, void *buffer, size_t size)
{
	return transfer_full(step_read, fd, buffer, size, 0);
}

int fd_pread_full(int fd, void *buffer, size_t size, off_t offset)
{
	return transfer_full(pread, fd, buffer, size, offset);
}

int fd_write_full(int fd, const void *buffer, size_t size)
{
	return transfer_full(step_write, fd, (void *)buffer, size, 0);
}

int fd_pwrite_full(int fd, const void *buffer, size_t size, off_t offset)
{
	return transfer_full(step_pwrite, fd, (void *)buffer, size, offset);
}

int fd_set_nonblock(int fd, bool nonblock)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	flags = nonblock ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

int fd_pidfd_open(pid_t pid)
{
	int fd = pidfd_open(pid, 0); /* always close-on-exec */

	return fd < 0 ? -errno : fd;
}

bool fd_is_pidfd(int fd)
{
	/* pidfd_send_signal(2): EBADF for what is none; signal 0 only asks. */
	return pidfd_send_signal(fd, 0, NULL, 0) == 0 || errno == EPERM || errno == ESRCH;
}

bool fd_pidfd_ended(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return poll(&p, 1, 0) > 0 && (p.revents & POLLIN);
}

int fd_pidfd_send_signal(int pidfd, int signal)
{
	return pidfd_send_signal(pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}

ssize_t fd_process_madvise(int pidfd, uint64_t address, size_t bytes, int advice)
{
	/* An address in the other process, so a number; it becomes a pointer for the call only. */
	struct iovec range = {.iov_base = (void *)(uintptr_t)address, .iov_len = bytes};
	ssize_t n = process_madvise(pidfd, &range, 1, advice, 0);

	return n < 0 ? -errno : n;
}

int fd_mkdir_parents(const char *path, mode_t mode)
{
	_cleanup_free_ char *copy = strdup(path);
	struct stat st;

	if (!copy)
		return -ENOMEM;
	if (!*copy)
		return -EINVAL;
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	if (mkdir(copy, mode) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	if (stat(copy, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}
