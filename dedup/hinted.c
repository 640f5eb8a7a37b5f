/*
 * Free page hinting made exact. Never reads a guest page.
 *
 * DOC: a hint is only a hint
 *
 * A hint says that a page was free at some moment. Linux does not wait for anybody before it uses
 * such a page again (its shrinker gives hinted blocks back when memory is short), so by the time a
 * hint is looked at the page may hold data. A page P may be dropped if it was not written since the
 * guest made the hint: then nobody can need what is in it. That is decided as follows.
 *
 *   1. The write log starts for all RAM (hinted_begin).
 *   2. Then the guest is told the command identifier under which it shall hint.
 *   3. A hint for P under that identifier arrives.
 *   4. P is frozen (freeze.h): whoever writes it from here on waits.
 *   5. Each vCPU comes out of KVM_RUN once, or is seen waiting for a frozen page (settle).
 *   6. The log is fetched. P was not written: it is dropped. P was written: it is thawed.
 *
 * Let w be a write to P after the hint. w is after 2, so the log was on.
 * - w is after 4. It waits until P is thawed or dropped, and is then made to what is there: the page
 *   or a new one of zeros. Nothing is lost: w is in neither page before, and the guest, which gave
 *   P's content up with the hint, cannot tell zeros from what was there.
 * - w is before 4, by the guest's own instruction. KVM notes a page in the log before it gives the
 *   guest a writable entry for it, so w is in the log. Where the CPU logs instead (PML), the entry
 *   waits in the vCPU's buffer until its next exit: that is what 5 is for.
 * - w is before 4, by KVM itself for a vCPU (emulated instruction, page table bits, steal time). KVM
 *   writes first and notes then, both within the same KVM_RUN. 5 waits for its end, so the note is
 *   there in 6. A vCPU that waits for a frozen page has come to a fault: it is in no write but the
 *   one that waits, and what it wrote before is noted (and its PML buffer was emptied on the way).
 * - w is before 4, by this process: noted before it is made (write-log.c), so it is there in 6.
 *   Direct I/O into P that is under way: P is busy, and busy pages are not frozen. That is over:
 *   noted when it began.
 * So every w keeps P, or waits for the decision and loses nothing. Writes between 1 and the hint
 * keep P as well, needlessly; bits are never forgotten during a run, since a hint that is looked at
 * now may have been made before the last fetch.
 *
 * 5 is given up after a while (a vCPU has no CPU, or waits for the disk): then everything is thawed
 * and the hints are lost.
 *
 * Several chunks are frozen at once, so that 5 and 6 are paid once for up to 64 MiB. Their locks are
 * taken in ascending order, and whoever else takes chunk locks holds one at a time, so there is no
 * cycle; whoever waits for one waits no longer than 5 may take.
 *
 * Pages of the pool that the guest has not written stay mapped: they cost nothing of their own.
 */
#include "dedup/hinted.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dedup/freeze.h"
#include "memd/base/overflow.h"
#include "memd/base/pagemap.h"

#define BATCH_CHUNKS 32

struct chunk {
	uint64_t first_page;
	uint64_t wanted[FREEZE_WORDS];
	struct freeze freeze;
};

struct hinted {
	struct guest_ram *ram;
	struct write_log *log;
	size_t n_chunks; /* collected; ascending */
	struct chunk chunks[BATCH_CHUNKS];
};

int hinted_new(struct guest_ram *ram, struct write_log *log, struct hinted **ret)
{
	struct hinted *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->ram = ram;
	h->log = log;
	*ret = h;
	return 0;
}

void hinted_free(struct hinted *h)
{
	free(h);
}

int hinted_begin(struct hinted *h)
{
	if (!guest_ram_can_freeze(h->ram))
		return -EOPNOTSUPP;
	return write_log_start(h->log, WRITE_LOG_HINTS, 0, guest_ram_pages(h->ram));
}

void hinted_end(struct hinted *h)
{
	write_log_stop(h->log, WRITE_LOG_HINTS, 0, guest_ram_pages(h->ram));
}

static bool bit(const uint64_t *bits, unsigned i)
{
	return bits[i / 64] >> i % 64 & 1;
}

static uint64_t count(const uint64_t *bits)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < FREEZE_WORDS; i++)
		n += (uint64_t)__builtin_popcountll(bits[i]);
	return n;
}

/* Drops the frozen pages of a chunk that are not in `written`. */
static void give_unwritten(struct freeze *f, const uint64_t *written, struct hinted_counts *counts)
{
	uint64_t clean[FREEZE_WORDS];

	for (unsigned w = 0; w < FREEZE_WORDS; w++) {
		uint64_t frozen = f->frozen[w] | f->swapped[w];

		clean[w] = frozen & ~written[w];
		counts->written_pages += (uint64_t)__builtin_popcountll(frozen & written[w]);
	}
	for (unsigned i = 0, end; i < CHUNK_PAGES; i = end) {
		end = i + 1;
		if (!bit(clean, i))
			continue;
		while (end < CHUNK_PAGES && bit(clean, end))
			end++;
		if (freeze_give(f, i, end - i, HOLE_HINTED) == 0)
			counts->dropped_pages += end - i;
	}
}

/* All chunks are frozen. */
static void decide(struct hinted *h, struct hinted_counts *counts)
{
	uint64_t written[FREEZE_WORDS], fetched_end = 0;
	int r = write_log_settle(h->log);

	for (size_t i = 0; i < h->n_chunks; i++) {
		struct freeze *f = &h->chunks[i].freeze;

		if (r == 0 && f->first_page >= fetched_end)
			r = write_log_fetch(h->log, f->first_page, &fetched_end);
		if (r < 0) {
			counts->unsettled_pages += count(f->frozen) + count(f->swapped);
			continue;
		}
		write_log_read(h->log, WRITE_LOG_HINTS, f->first_page, CHUNK_PAGES, written);
		give_unwritten(f, written, counts);
	}
}

static void flush(struct hinted *h, struct hinted_counts *counts)
{
	for (size_t i = 0; i < h->n_chunks; i++) {
		freeze_begin(&h->chunks[i].freeze, h->ram, h->chunks[i].first_page);
		freeze_pages(&h->chunks[i].freeze, h->chunks[i].wanted);
	}
	if (h->n_chunks)
		decide(h, counts);
	for (size_t i = 0; i < h->n_chunks; i++)
		freeze_end(&h->chunks[i].freeze);
	h->n_chunks = 0;
}

/* Most hints are about pages that have no memory already. */
static bool has_memory(const struct hinted *h, uint64_t page, uint64_t n)
{
	uint64_t entries[CHUNK_PAGES];

	if (guest_ram_pagemap(h->ram, page, n, entries) < 0)
		return false;
	for (uint64_t i = 0; i < n; i++)
		if (entries[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED))
			return true;
	return false;
}

/* Pages of one chunk; calls ascend. */
static void collect(struct hinted *h, uint64_t page, uint64_t n, struct hinted_counts *counts)
{
	uint64_t first_page = u64_align_down(page, CHUNK_PAGES);
	struct chunk *c = h->n_chunks ? &h->chunks[h->n_chunks - 1] : NULL;

	if (!has_memory(h, page, n))
		return;
	if (!c || c->first_page != first_page) {
		if (h->n_chunks == BATCH_CHUNKS)
			flush(h, counts);
		c = &h->chunks[h->n_chunks++];
		c->first_page = first_page;
		memset(c->wanted, 0, sizeof(c->wanted));
	}
	for (uint64_t i = page - first_page; i < page - first_page + n; i++)
		c->wanted[i / 64] |= UINT64_C(1) << i % 64;
}

static int compare_ranges(const void *a, const void *b)
{
	const struct hinted_range *x = a, *y = b;

	return (x->page > y->page) - (x->page < y->page);
}

void hinted_drop(
	struct hinted *h, struct hinted_range *ranges, size_t n, struct hinted_counts *counts)
{
	uint64_t done = 0; /* pages below are collected: hints may overlap */

	qsort(ranges, n, sizeof(*ranges), compare_ranges);
	for (size_t i = 0; i < n; i++) {
		uint64_t page = u64_max(ranges[i].page, done), end = ranges[i].page + ranges[i].n;

		for (uint64_t next; page < end; page = next) {
			next = u64_min(end, u64_align_down(page, CHUNK_PAGES) + CHUNK_PAGES);
			collect(h, page, next - page, counts);
		}
		done = u64_max(done, end);
	}
	flush(h, counts);
}
