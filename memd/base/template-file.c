/* Reads runs of data, writes runs of pages that are not zero, seals. Maps nothing. */
#include "memd/base/template-file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memd/base/cleanup.h"
#include "memd/base/fd.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"

#define COPY_BYTES (256 * KIB)
#define SEALS	   (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

static bool is_zero(const uint8_t *page)
{
	return page[0] == 0 && memcmp(page, page + 1, PAGE_BYTES - 1) == 0;
}

/* Writes the pages of a buffer of whole pages that are not zero, run by run. */
static int write_pages(int memfd, const uint8_t *buffer, uint64_t bytes, uint64_t offset)
{
	for (uint64_t begin = 0, end; begin < bytes; begin = end) {
		bool zero = is_zero(buffer + begin);
		int r = 0;

		for (end = begin + PAGE_BYTES; end < bytes && is_zero(buffer + end) == zero;)
			end += PAGE_BYTES;
		if (!zero)
			r = fd_pwrite_full(
				memfd, buffer + begin, end - begin, (off_t)(offset + begin));
		if (r < 0)
			return r;
	}
	return 0;
}

/* Copies [begin, end), whole pages. */
static int copy_data(int fd, int memfd, uint64_t begin, uint64_t end, uint8_t *buffer)
{
	for (uint64_t at = begin, n; at < end; at += n) {
		int r;

		n = u64_min(COPY_BYTES, end - at);
		r = fd_pread_full(fd, buffer, n, (off_t)at);
		if (r == 0)
			r = write_pages(memfd, buffer, n, at);
		if (r < 0)
			return r;
	}
	return 0;
}

static int copy_all(int fd, int memfd, uint64_t bytes)
{
	_cleanup_free_ uint8_t *buffer = malloc(COPY_BYTES);
	uint64_t at = 0;

	if (!buffer)
		return -ENOMEM;
	while (at < bytes) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole;
		int r;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno; /* nothing but a hole up to the end */
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		at = u64_min(u64_align_up((uint64_t)hole, PAGE_BYTES), bytes);
		r = copy_data(fd, memfd, u64_align_down((uint64_t)data, PAGE_BYTES), at, buffer);
		if (r < 0)
			return r;
	}
	return 0;
}

int template_file_load(int fd, uint64_t bytes, int *ret_memfd, struct error *e)
{
	_cleanup_close_ int memfd = -1;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return error_set(e, -errno, "%s", strerror(errno));
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != bytes || bytes % PAGE_BYTES)
		return error_set(e, -EINVAL,
			"is no RAM of %llu bytes (it has %lld): the snapshot is damaged",
			(unsigned long long)bytes, (long long)st.st_size);
	memfd = memfd_create("memd-template", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memfd < 0 || ftruncate(memfd, (off_t)bytes) < 0)
		return error_set(e, -errno, "no memory for a template: %s", strerror(errno));
	r = copy_all(fd, memfd, bytes);
	if (r < 0)
		return error_set(e, r, "cannot be loaded: %s", strerror(-r));
	if (fcntl(memfd, F_ADD_SEALS, SEALS) < 0)
		return error_set(e, -errno, "cannot be sealed: %s", strerror(errno));
	*ret_memfd = TAKE_FD(memfd);
	return 0;
}

bool template_file_is_sealed(int fd, uint64_t bytes)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	return seals >= 0 && (seals & SEALS) == SEALS && fstat(fd, &st) == 0 &&
	       (uint64_t)st.st_size == bytes;
}

uint64_t template_file_allocated_bytes(int memfd)
{
	struct stat st;

	return fstat(memfd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}
