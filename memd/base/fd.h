/* Files and descriptors: whole reads and writes, small sysfs and procfs files, pidfds, memfds. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "memd/base/cleanup.h"

/*
 * Reads a small file (procfs, sysfs, configuration) whole: at most max_bytes, else -E2BIG. The text
 * is NUL-terminated and the caller's to free. dir_fd may be AT_FDCWD. Any errno of openat/read.
 */
int fd_read_file_at(
	int dir_fd, const char *path, size_t max_bytes, char **ret_text, size_t *ret_size);
/*
 * Writes text in one write(2), as sysfs wants it. Does not create the file. Any errno; -EIO on a
 * short write.
 */
int fd_write_file_at(int dir_fd, const char *path, const char *text);
/*
 * Writes text to path.new and renames that: the file is there as a whole, or as it was. Any errno
 * of either.
 */
int fd_replace_file(const char *path, const char *text);

/* Reads or writes exactly size bytes over EINTR and short counts; -EIO at end of file. */
int fd_read_full(int fd, void *buffer, size_t size);
int fd_pread_full(int fd, void *buffer, size_t size, off_t offset);
int fd_write_full(int fd, const void *buffer, size_t size);
int fd_pwrite_full(int fd, const void *buffer, size_t size, off_t offset);

int fd_set_nonblock(int fd, bool nonblock);
/* Returns the pidfd or negative errno. */
int fd_pidfd_open(pid_t pid);
/* Whether fd is a pidfd, of a living process or not. */
bool fd_is_pidfd(int fd);
/* Whether the process that a pidfd names has ended (poll(2) on it, without waiting). */
bool fd_pidfd_ended(int pidfd);
int fd_pidfd_send_signal(int pidfd, int signal);
/*
 * process_madvise(2) on one range of another process: bytes advised (may be fewer than asked) or
 * negative errno.
 */
ssize_t fd_process_madvise(int pidfd, uint64_t address, size_t bytes, int advice);
/* mkdir -p with mode for what is made. 0 also when it was there. */
int fd_mkdir_parents(const char *path, mode_t mode);
