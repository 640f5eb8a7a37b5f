/*
 * What guest-ram.c and freeze.c share and nobody else may see: the two of them are the only code
 * that takes guest pages away or puts others in their place. write-log.c has its notes of writes in
 * here, too.
 */
#pragma once

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dedup/guest-ram.h"
#include "memd/base/pool-proto.h"

/*
 * Meta of a page, 32 bits. META_POOL: the mapping at this page is of the pool, at the slot in the
 * low bits, whether or not the guest has written since (the pagemap tells). META_TEMPLATE: it is of
 * the template, at the page's own number, likewise. Otherwise the mapping is anonymous, and the low
 * bits say what a hole there is. Written under the chunk's lock; read without it by the census.
 */
#define META_POOL	(UINT32_C(1) << 31)
#define META_REGISTERED (UINT32_C(1) << 30) /* file mapping known to the userfaultfd */
#define META_ORPHAN	(UINT32_C(1) << 29) /* of a pool that is gone: nobody to release to */
#define META_SLOT_MASK	(META_ORPHAN - 1)
#define META_TEMPLATE	(UINT32_C(1) << 28) /* without META_POOL only */
#define META_WHY_MASK	UINT32_C(7) /* enum hole_reason */
#define META_FREED	(UINT32_C(1) << 3) /* was backed when it was given */

_Static_assert(HOLE_REASONS <= META_WHY_MASK + 1, "each reason has a number in the meta");

struct guest_ram_chunk {
	pthread_mutex_t
		/*
		 * from freeze to wake; never held while guest memory is accessed that may be frozen
		 */
		lock;
	uint32_t n_busy; /* sum of busy[] over its pages */
};

struct guest_ram {
	size_t n_ranges;
	struct guest_ram_range ranges[GUEST_RAM_RANGES_MAX];
	uint64_t n_pages;
	uint64_t n_chunks;
	int uffd; /* -1: pages cannot be frozen */
	int pagemap_fd;
	_Atomic uint32_t *meta; /* n_pages */
	const uint8_t *template; /* n_pages, to compare with; NULL: none */
	uint16_t *
		/* n_pages, under the chunk's lock; costs memory only where there is direct I/O */
		busy;
	struct guest_ram_chunk *chunks; /* n_chunks */
	_Atomic uint64_t *written; /* bitmap by page: guest_ram_wrote, until the write log takes it */
	_Atomic int64_t mappings; /* recounted by each census */

	pthread_mutex_t released_lock; /* what follows; taken last */
	uint32_t *released;
	size_t n_released;
	size_t released_size;
};

static inline uint32_t guest_ram_meta(const struct guest_ram *ram, uint64_t page)
{
	return atomic_load_explicit(&ram->meta[page], memory_order_relaxed);
}

/* Whether the mapping at a page with this meta is of a file: the pool's or the template. */
static inline bool meta_is_file(uint32_t meta)
{
	return meta & META_POOL || meta & META_TEMPLATE;
}

/* Whether a mapping ends between two neighbouring pages with this meta. */
static inline bool meta_is_boundary(uint32_t before, uint32_t after)
{
	if (!meta_is_file(before) && !meta_is_file(after))
		return false;
	if (before & META_POOL)
		return after != before + 1 || (after & META_SLOT_MASK) % POOL_FILE_PAGES == 0;
	return before != after;
}

/*
 * Sets the meta of n pages of one chunk, from `first` on, and keeps the count of mappings. With
 * META_POOL the slot grows with the page. References that the old meta held are noted for release.
 * Under the chunk's lock.
 */
void guest_ram_set_meta(struct guest_ram *ram, uint64_t first, uint64_t n, uint32_t meta);
/* Only adds META_REGISTERED. */
void guest_ram_set_registered(struct guest_ram *ram, uint64_t first, uint64_t n);

/*
 * mmap(MAP_FIXED) of readable and writable private pages over live guest RAM. The system call
 * itself: the thread sanitizer takes libc's mmap for a write of all those bytes, and would call
 * every access of a guest's page a race.
 */
static inline int guest_ram_map_over(
	uint8_t *address, uint64_t bytes, int flags, int fd, uint64_t offset)
{
	return syscall(SYS_mmap, address, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED | flags, fd, offset) == -1
		       ? -errno
		       : 0;
}

/*
 * Puts fresh anonymous memory over n pages that lie in file mappings, with all that guest RAM
 * needs. Meta is the caller's to set. -ENOMEM when the kernel's limit of mappings is reached:
 * nothing has changed then. Under the chunk's lock.
 */
int guest_ram_map_anonymous(struct guest_ram *ram, uint64_t first, uint64_t n);
/*
 * Registers [address, address + bytes) for write protection with the guest's userfaultfd. Any errno
 * of UFFDIO_REGISTER.
 */
int guest_ram_register(const struct guest_ram *ram, uint8_t *address, uint64_t bytes);
