/* Reads /proc/PID/pagemap. Never touches the pages that it tells about. */
#include "memd/base/pagemap.h"

#include <fcntl.h>
#include <stdio.h>

#include "memd/base/fd.h"
#include "memd/base/units.h"

int pagemap_open(pid_t pid)
{
	char path[40];
	int fd;

	if (pid == 0)
		snprintf(path, sizeof(path), "/proc/self/pagemap");
	else
		snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int pagemap_read(int fd, uint64_t address, size_t n_pages, uint64_t *entries)
{
	size_t size = n_pages * sizeof(*entries);
	off_t offset = (off_t)((address >> PAGE_SHIFT_4K) * sizeof(*entries));

	return fd_pread_full(fd, entries, size, offset);
}
