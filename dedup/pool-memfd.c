/*
 * Slots of one memfd. It is never mapped: pages go in by pwrite and come out by pread, so no member
 * can make us fault.
 */
#include "dedup/pool-memfd.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "memd/base/fd.h"
#include "memd/base/units.h"

int pool_memfd_new(struct pool_memfd **ret)
{
	_cleanup_(pool_memfd_freep) struct pool_memfd *f = calloc(1, sizeof(*f));
	char path[40];

	if (!f)
		return -ENOMEM;
	f->read_fd = -1;
	f->fd = memfd_create("memd-pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (f->fd < 0 || ftruncate(f->fd, POOL_FILE_PAGES * PAGE_BYTES) < 0 ||
		fchmod(f->fd, 0400) < 0 ||
		fcntl(f->fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
	f->read_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (f->read_fd < 0)
		return -errno;
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

uint64_t pool_memfd_blocks_bytes(const struct pool_memfd *f)
{
	struct stat st;

	return fstat(f->fd, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}
