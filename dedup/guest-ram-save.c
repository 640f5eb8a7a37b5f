/*
 * Writes guest RAM to a file, for a snapshot.
 *
 * DOC: why it is whole
 * Nobody writes guest memory meanwhile: vCPUs stand still outside of KVM_RUN, device threads are
 * quiesced, and direct I/O is complete. The scanner and memd's paging go on, which exchange pages
 * for equal ones only: whatever the page map said a moment ago, a read gives the same bytes, and a
 * page that was a hole then is one still. Pages in swap are read, hence brought back: a snapshot
 * needs them all.
 */
#include <string.h>

#include "dedup/guest-ram-private.h"
#include "dedup/page-hash.h"
#include "memd/base/fd.h"
#include "memd/base/pagemap.h"

static bool has_content(const struct guest_ram *ram, uint64_t page, uint64_t entry)
{
	if (!meta_is_file(guest_ram_meta(ram, page)) &&
		!(entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)))
		return false;
	return !page_is_zero(guest_ram_page_ptr(ram, page));
}

static int save_chunk(const struct guest_ram *ram, uint64_t first, int fd)
{
	uint64_t entries[CHUNK_PAGES];
	int r = guest_ram_pagemap(ram, first, CHUNK_PAGES, entries);

	for (uint64_t i = 0, n; r == 0 && i < CHUNK_PAGES; i += n + 1) {
		n = 0; /* a run with content, and the page without that ends it */
		while (i + n < CHUNK_PAGES && has_content(ram, first + i + n, entries[i + n]))
			n++;
		if (n > 0)
			r = fd_pwrite_full(fd, guest_ram_page_ptr(ram, first + i), n * PAGE_BYTES,
				(off_t)((first + i) * PAGE_BYTES));
	}
	return r;
}

int guest_ram_save(const struct guest_ram *ram, int fd, const atomic_bool *cancel)
{
	int r = ftruncate(fd, (off_t)(ram->n_pages * PAGE_BYTES)) < 0 ? -errno : 0;

	for (uint64_t page = 0; r == 0 && page < ram->n_pages; page += CHUNK_PAGES)
		r = atomic_load(cancel) ? -ECANCELED : save_chunk(ram, page, fd);
	return r;
}
