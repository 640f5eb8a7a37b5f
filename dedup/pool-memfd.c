/*
 * Slots of one memfd. It is never mapped: pages go in by pwrite and come out by pread, so no member
 * can make us fault.
 */
#include "dedup/pool-memfd.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memd/base/fd.h"
#include "memd/base/units.h"

#define SEALS (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)
#define MODE  0400
#define BYTES ((off_t)(POOL_FILE_PAGES * PAGE_BYTES))

static int reopen(int fd, int flags)
{
	char path[40];
	int r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = open(path, flags | O_CLOEXEC);
	return r < 0 ? -errno : r;
}

static struct pool_memfd *memfd_alloc(void)
{
	struct pool_memfd *f = calloc(1, sizeof(*f));

	if (f)
		f->fd = f->read_fd = -1;
	return f;
}

/* f->fd is open: what else there is to know of it. */
static int finish(struct pool_memfd *f)
{
	struct stat st;

	f->read_fd = reopen(f->fd, O_RDONLY);
	if (f->read_fd < 0)
		return f->read_fd;
	if (fstat(f->fd, &st) < 0)
		return -errno;
	f->device = st.st_dev;
	f->inode = st.st_ino;
	return 0;
}

int pool_memfd_new(struct pool_memfd **ret)
{
	_cleanup_(pool_memfd_freep) struct pool_memfd *f = memfd_alloc();
	int r;

	if (!f)
		return -ENOMEM;
	f->fd = memfd_create("memd-pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (f->fd < 0 || ftruncate(f->fd, BYTES) < 0 || fchmod(f->fd, MODE) < 0 ||
		fcntl(f->fd, F_ADD_SEALS, SEALS) == -1)
		return -errno;
	r = finish(f);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(f);
	return 0;
}

int pool_memfd_restore(int fd, struct pool_memfd **ret)
{
	_cleanup_(pool_memfd_freep) struct pool_memfd *f = NULL;
	struct stat st;
	int r;

	if (fcntl(fd, F_GET_SEALS) != SEALS)
		return -EPERM;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_uid != geteuid() || (st.st_mode & 07777) != MODE || st.st_size != BYTES)
		return -EPERM;
	f = memfd_alloc();
	if (!f)
		return -ENOMEM;
	/* The owner may give himself the right to write, and takes it back once the file is open. */
	if (fchmod(fd, 0600) < 0)
		return -errno;
	f->fd = reopen(fd, O_RDWR);
	if (fchmod(fd, MODE) < 0)
		return -errno;
	if (f->fd < 0)
		return f->fd;
	r = finish(f);
	if (r < 0)
		return r;
	f->restored = true;
	f->n_used = POOL_FILE_PAGES;
	memset(f->used, 0xff, sizeof(f->used));
	for (size_t i = 0; i < POOL_FILE_EXTENTS; i++)
		f->extent_used[i] = POOL_EXTENT_SLOTS;
	*ret = TAKE_PTR(f);
	return 0;
}

void pool_memfd_free(struct pool_memfd *f)
{
	if (!f)
		return;
	cleanup_closep(&f->fd);
	cleanup_closep(&f->read_fd);
	free(f);
}

static bool bit_get(const uint64_t *bits, uint32_t i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

static void bit_flip(uint64_t *bits, uint32_t i)
{
	bits[i / 64] ^= UINT64_C(1) << (i % 64);
}

bool pool_memfd_is_used(const struct pool_memfd *f, uint32_t i)
{
	return bit_get(f->used, i);
}

bool pool_memfd_find_free(const struct pool_memfd *f, uint32_t *ret_i)
{
	if (f->n_used == POOL_FILE_PAGES)
		return false;
	for (uint32_t w = 0; w < POOL_FILE_WORDS; w++)
		if (~f->used[w]) {
			*ret_i = w * 64 + (uint32_t)__builtin_ctzll(~f->used[w]);
			return true;
		}
	return false;
}

bool pool_memfd_find_extent(const struct pool_memfd *f, uint32_t *ret_extent)
{
	for (uint32_t i = 0; i < POOL_FILE_EXTENTS; i++)
		if (!f->extent_used[i] && !f->extent_taken[i]) {
			*ret_extent = i;
			return true;
		}
	return false;
}

int pool_memfd_put(struct pool_memfd *f, uint32_t i, const uint8_t *page)
{
	int r = fd_pwrite_full(f->fd, page, PAGE_BYTES, (off_t)(i * PAGE_BYTES));

	if (r < 0)
		return r;
	if (bit_get(f->stale, i)) {
		bit_flip(f->stale, i);
		f->n_stale--;
	}
	bit_flip(f->used, i);
	f->n_used++;
	f->extent_used[i / POOL_EXTENT_SLOTS]++;
	return 0;
}

int pool_memfd_get(const struct pool_memfd *f, uint32_t i, uint8_t *ret_page)
{
	return fd_pread_full(f->fd, ret_page, PAGE_BYTES, (off_t)(i * PAGE_BYTES));
}

void pool_memfd_drop(struct pool_memfd *f, uint32_t i)
{
	f->slots[i] = (struct pool_slot){0};
	bit_flip(f->used, i);
	f->n_used--;
	f->extent_used[i / POOL_EXTENT_SLOTS]--;
	bit_flip(f->stale, i);
	f->n_stale++;
}

void pool_memfd_trim(struct pool_memfd *f)
{
	for (uint32_t i = 0, n; f->n_stale && i < POOL_FILE_PAGES; i += n) {
		n = 1;
		if (!bit_get(f->stale, i))
			continue;
		while (i + n < POOL_FILE_PAGES && bit_get(f->stale, i + n))
			n++;
		/*
		 * What fails here costs memory, nothing else: the slots are free, and written
		 * before they are used.
		 */
		fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			(off_t)(i * PAGE_BYTES), (off_t)(n * PAGE_BYTES));
		for (uint32_t j = i; j < i + n; j++)
			bit_flip(f->stale, j);
		f->n_stale -= n;
	}
}

void pool_memfd_find_leaks(struct pool_memfd *f)
{
	if (pool_memfd_blocks_bytes(f) / PAGE_BYTES <= f->n_used + f->n_stale)
		return;
	for (uint32_t w = 0; w < POOL_FILE_WORDS; w++)
		f->stale[w] = ~f->used[w];
	f->n_stale = (uint32_t)POOL_FILE_PAGES - f->n_used;
}

uint64_t pool_memfd_blocks_bytes(const struct pool_memfd *f)
{
	struct stat st;

	return fstat(f->fd, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}
