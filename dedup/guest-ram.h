/*
 * A guest's RAM as this process holds it: anonymous memory in a few ranges, and for each 4 KiB page
 * what we made of it (private, of the template, mapped from the pool, a hole and why). Everything that takes a page
 * away or puts another one in its place goes through here, under the lock of its 2 MiB chunk;
 * devices announce direct I/O as busy.
 *
 * Page numbers ("page") count over all ranges in order of gpa, without the gaps: 0..n_pages-1. A 2
 * MiB chunk of page numbers never crosses a range, since ranges are multiples of 2 MiB.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memd/base/cleanup.h"
#include "memd/base/error.h"
#include "memd/base/units.h"

#define GUEST_RAM_RANGES_MAX 4

/* Why a page that is not there is not there. */
enum hole_reason {
	HOLE_UNTOUCHED = 0,
	HOLE_ZERO = 1, /* found zero, dropped */
	HOLE_BALLOON = 2, /* given through the balloon */
	HOLE_REPORTED = 3, /* reported free (free page reporting) */
	HOLE_HINTED = 4, /* hinted free (free page hinting), and dropped */
	HOLE_UNPLUGGED = 5, /* of a virtio-mem region: the guest has no memory there */
	HOLE_REASONS,
};

struct guest_ram_range {
	uint64_t gpa;
	uint64_t bytes; /* multiple of 2 MiB */
	uint8_t *host; /* 2 MiB aligned */
	uint64_t first_page; /* page number of its first page */
};

/* Opaque: dedup/guest-ram.c. Allocates one uint32_t of meta a page and one lock a chunk. */
struct guest_ram;

/* A range wanted: bytes a multiple of 2 MiB, gpa 2 MiB aligned, ascending and disjoint. */
struct guest_ram_layout {
	uint64_t gpa;
	uint64_t bytes;
};

/*
 * Maps the ranges: private anonymous, MADV_DONTFORK, named "memd-ram" (PR_SET_VMA_ANON_NAME),
 * MADV_NOHUGEPAGE (see guest-ram.c), 2 MiB aligned with a guard page at either end, registered with
 * a userfaultfd of its own in write-protect mode (synchronous, no handler: see freeze.c). Without
 * userfaultfd (-EPERM, -ENOSYS) sharing is off and guest_ram_can_freeze() says false. -EINVAL for a
 * bad layout, -ENOMEM. Free with guest_ram_free.
 */
int guest_ram_new(
	const struct guest_ram_layout *layout, size_t n, struct guest_ram **ret, struct error *e);
void guest_ram_free(struct guest_ram *ram);
DEFINE_CLEANUP(struct guest_ram *, guest_ram_free)

/*
 * Puts all of the RAM into memory and keeps it there (mlock): nothing of it is paged out, and nothing
 * may be shared or discarded any more. -ENOMEM, -EPERM: beyond RLIMIT_MEMLOCK, or no memory.
 */
int guest_ram_lock(const struct guest_ram *ram);
/*
 * Makes the RAM a copy-on-write copy of a template: a sealed memfd that holds it by page number
 * (memd/base/template-file.h). Its data is mapped, its long holes stay anonymous, so that reading
 * them fills neither. Once, before anything else has touched the RAM. fd stays the caller's. -EINVAL: not
 * of this size or not sealed; an errno of mmap: the RAM is useless then.
 */
int guest_ram_set_template(struct guest_ram *ram, int fd, struct error *e);
/* The template's copy of a page whose mapping is of the template, written since or not; else NULL. */
const uint8_t *guest_ram_template_page(const struct guest_ram *ram, uint64_t page);
/*
 * Writes the RAM by page number to fd, a new empty file; what is zero becomes a hole of it. The guest
 * stands still: no vCPU runs, no device writes. -ECANCELED when *cancel became true, or an errno of
 * writing.
 */
int guest_ram_save(const struct guest_ram *ram, int fd, const atomic_bool *cancel);
/*
 * Says why pages that were never touched are holes (a restored balloon); others are left as they
 * are.
 */
void guest_ram_mark_holes(
	struct guest_ram *ram, uint64_t page, uint64_t n_pages, enum hole_reason why);

size_t guest_ram_ranges(const struct guest_ram *ram, const struct guest_ram_range **ret);
uint64_t guest_ram_pages(const struct guest_ram *ram);
bool guest_ram_can_freeze(const struct guest_ram *ram);

/*
 * Host pointer to [gpa, gpa + bytes) when all of it lies in one range, else NULL. bytes 0: NULL.
 * The pointer stays valid for the life of the RAM (what is behind it changes). Threads that access
 * it may wait in the kernel while a page is frozen, so no thread that accesses guest memory may
 * hold a chunk lock.
 */
void *guest_ram_ptr(const struct guest_ram *ram, gpa_t gpa, uint64_t bytes);
/* The page number that gpa lies in; false when it is not RAM. */
bool guest_ram_page_of(const struct guest_ram *ram, gpa_t gpa, uint64_t *ret_page);
/* Host address of a page; page < guest_ram_pages(). */
uint8_t *guest_ram_page_ptr(const struct guest_ram *ram, uint64_t page);

/*
 * Direct I/O: from busy to done the pages of [gpa, gpa + bytes) are neither frozen, mapped over nor
 * discarded. Busy is taken before the range is handed to the kernel, done after completion; it
 * counts as a write (guest_ram_wrote). Nests. -EFAULT when the range is not RAM. busy waits (briefly, bounded by one
 * freeze) for a chunk that is being decided.
 */
int guest_ram_busy(struct guest_ram *ram, gpa_t gpa, uint64_t bytes);
void guest_ram_done(struct guest_ram *ram, gpa_t gpa, uint64_t bytes);

/*
 * This process is about to write [gpa, gpa + bytes) of guest memory, which KVM's dirty log does not
 * see: notes it for the write log (write-log.h). Before the write, each time; cheap, any thread.
 * What is not RAM is ignored.
 */
void guest_ram_wrote(const struct guest_ram *ram, gpa_t gpa, uint64_t bytes);

/*
 * The guest gave pages back (balloon, reporting) or they are zero: makes [page, page + n_pages)
 * holes that read as zeros, one discard per anonymous stretch, a fresh anonymous mapping where pool
 * pages were mapped (whose references are noted for release, see guest_ram_take_released). Busy
 * pages are left as they are. *ret_calls (may be NULL) += number of discarding system calls.
 * -EINVAL when the range is not RAM.
 */
int guest_ram_discard(struct guest_ram *ram, uint64_t page, uint64_t n_pages, enum hole_reason why,
	uint64_t *ret_calls);

/*
 * Takes up to max noted references out of the list: slots whose mapping is gone, for POOL_RELEASE.
 * Returns how many.
 */
size_t guest_ram_take_released(struct guest_ram *ram, uint32_t *ret_slots, size_t max);
/*
 * The pool is gone or another one: what is mapped stays valid, but its references are nobody's any
 * more.
 */
void guest_ram_orphan_slots(struct guest_ram *ram);
/*
 * Takes that back for the slots of one chunk for which is_there says so, and returns them, at most
 * CHUNK_PAGES, one for each page: references that are held from now on, for POOL_RESTORE. Only after
 * guest_ram_orphan_slots, and before anything else is mapped.
 */
size_t guest_ram_restore_slots(struct guest_ram *ram, uint64_t chunk,
	bool (*is_there)(void *context, uint32_t slot), void *context, uint32_t *ret_slots);

/* The guest takes ballooned pages back (deflate): they are ordinary untouched holes again. */
void guest_ram_undiscard(struct guest_ram *ram, uint64_t page, uint64_t n_pages);

/* Pages by state; adds up to n_pages. Reads the pagemap, touches no page. */
struct guest_ram_census {
	uint64_t private_pages; /* anonymous and present; the kernel's zero page is a hole */
	uint64_t shared_pages; /* mapped from the pool, not broken */
	uint64_t template_pages; /* mapped from the template, not broken */
	uint64_t swapped_pages;
	uint64_t hole_pages[HOLE_REASONS]; /* by enum hole_reason */
	uint64_t freed_pages[HOLE_REASONS]; /* of those, backed when they were given */
	uint64_t broken_pages; /* of private and swapped: in a file mapping, written since */
	uint64_t mappings; /* virtual memory areas the RAM consists of, as we made them */
};
/*
 * Virtual memory areas the RAM consists of, as of the last census and what was done since. Any
 * thread.
 */
uint64_t guest_ram_mappings(const struct guest_ram *ram);
/*
 * The pagemap of n pages (memd/base/pagemap.h), which lie in one chunk. Touches no page, takes no
 * lock.
 */
int guest_ram_pagemap(
	const struct guest_ram *ram, uint64_t page, uint64_t n, uint64_t *ret_entries);
/*
 * Takes no lock, so a scanner that waits for memory does not hold it up: a page that changes
 * meanwhile counts as either.
 */
int guest_ram_census(struct guest_ram *ram, struct guest_ram_census *ret);
