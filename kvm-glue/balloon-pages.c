/*
 * What becomes of the pages that a balloon's driver names (virtio 1.2, 5.5.6).
 *
 * DOC: what the balloon believes
 * The guest names pages that it will not use (inflate), that it uses again (deflate), and ranges
 * that happen to be free (reporting). Each page named is looked up in RAM; what is not RAM is
 * counted and otherwise ignored. A bitmap holds which pages are in the balloon, so that the count
 * is what was really given, however often the guest names a page: a page inflated twice is
 * discarded twice (it may hold memory again) and counted once, a page deflated that was never
 * inflated counts for nothing. The pages of a request are sorted and discarded as ranges, one
 * guest_ram_discard for each, since a range costs about as much as a single page.
 *
 * Discarding before the request is used is what 5.5.6 allows: the guest gave the content up. With
 * PAGE_POISON the driver says what free pages hold. That concerns reported pages only (5.5.6.7):
 * they must keep poison_val or their content, and a discarded page reads as zeros; so pages of a
 * guest whose poison is not zero are acknowledged and kept. Inflated pages are discarded all the
 * same, since such a driver writes them anew after deflating (5.5.6.6).
 *
 * After a reset the balloon is empty: the driver has forgotten it.
 *
 * Must never: discard a page that the guest did not name.
 */
#include "kvm-glue/balloon-pages.h"

#include <errno.h>
#include <stdlib.h>

#include "memd/base/overflow.h"

#define PFNS_AT_ONCE 1024 /* one page of them: as large a request as drivers make */

#define TAG_HELD SNAPSHOT_TAG('h', 'e', 'l', 'd') /* the bitmap */

struct balloon_pages {
	struct guest_ram *ram;
	uint64_t n_pages; /* of RAM */
	uint64_t *held; /* bitmap by page number: in the balloon */
	uint32_t pfns[PFNS_AT_ONCE]; /* of the request at work */
};

int balloon_pages_new(struct guest_ram *ram, struct balloon_pages **ret)
{
	struct balloon_pages *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->ram = ram;
	p->n_pages = guest_ram_pages(ram);
	p->held = calloc((p->n_pages + 63) / 64, sizeof(*p->held));
	if (!p->held) {
		free(p);
		return -ENOMEM;
	}
	*ret = p;
	return 0;
}

void balloon_pages_free(struct balloon_pages *p)
{
	if (!p)
		return;
	free(p->held);
	free(p);
}

static bool held_test(const struct balloon_pages *p, uint64_t page)
{
	return p->held[page / 64] >> page % 64 & 1;
}

static void held_flip(struct balloon_pages *p, uint64_t page)
{
	p->held[page / 64] ^= UINT64_C(1) << page % 64;
}

static int compare_pages(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/*
 * Puts the page numbers of n PFNs in place of them, sorted and each once; returns how many. What is
 * not RAM falls out.
 */
static size_t pfns_to_pages(struct balloon_pages *p, size_t n, struct balloon_tally *t)
{
	size_t kept = 0, unique = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t page;

		if (guest_ram_page_of(p->ram, GPA((uint64_t)p->pfns[i] << PAGE_SHIFT_4K), &page))
			p->pfns[kept++] = (uint32_t)page;
	}
	qsort(p->pfns, kept, sizeof(p->pfns[0]), compare_pages);
	for (size_t i = 0; i < kept; i++)
		if (i == 0 || p->pfns[i] != p->pfns[unique - 1])
			p->pfns[unique++] = p->pfns[i];
	t->ignored_pages += n - unique;
	return unique;
}

/*
 * Discards a range the guest gave. A failure leaves the pages as they were, which the guest cannot
 * tell.
 */
static void discard(struct balloon_pages *p, uint64_t page, uint64_t n, enum hole_reason why,
	struct balloon_tally *t)
{
	guest_ram_discard(p->ram, page, n, why, &t->discard_calls);
	t->discard_ranges++;
}

/* Length of the run of consecutive page numbers that begins at i of n. */
static size_t run_length(const uint32_t *pages, size_t i, size_t n)
{
	size_t end = i + 1;

	while (end < n && pages[end] == pages[end - 1] + 1)
		end++;
	return end - i;
}

static void inflate_pages(struct balloon_pages *p, size_t n, struct balloon_tally *t)
{
	for (size_t i = 0, run; i < n; i += run) {
		run = run_length(p->pfns, i, n);
		discard(p, p->pfns[i], run, HOLE_BALLOON, t);
	}
	for (size_t i = 0; i < n; i++) {
		if (held_test(p, p->pfns[i])) {
			t->ignored_pages++;
			continue;
		}
		held_flip(p, p->pfns[i]);
		t->inflated_pages++;
	}
}

static void deflate_pages(struct balloon_pages *p, size_t n, struct balloon_tally *t)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		if (!held_test(p, p->pfns[i])) {
			t->ignored_pages++;
			continue;
		}
		held_flip(p, p->pfns[i]);
		p->pfns[kept++] = p->pfns[i];
	}
	t->deflated_pages += kept;
	for (size_t i = 0, run; i < kept; i += run) {
		run = run_length(p->pfns, i, kept);
		guest_ram_undiscard(p->ram, p->pfns[i], run);
	}
}

/*
 * An array of le32 PFNs (5.5.6). -EPROTO when it is not one: something to write, not a multiple of
 * four bytes, or more entries than the guest has pages.
 */
static int handle_pfns(struct balloon_pages *p, const struct virtq_chain *c,
	void (*handle)(struct balloon_pages *, size_t, struct balloon_tally *),
	struct balloon_tally *t)
{
	if (c->n_writable > 0 || c->readable_bytes % sizeof(p->pfns[0]) != 0 ||
		c->readable_bytes / sizeof(p->pfns[0]) > p->n_pages)
		return -EPROTO;
	for (uint64_t at = 0; at < c->readable_bytes;) {
		size_t bytes = virtq_chain_read(c, at, p->pfns, sizeof(p->pfns));

		handle(p, pfns_to_pages(p, bytes / sizeof(p->pfns[0]), t), t);
		at += bytes;
	}
	return 0;
}

/* A page that is reported free is not in the balloon, whatever the guest said before. */
static void forget_held(struct balloon_pages *p, uint64_t page, uint64_t n, struct balloon_tally *t)
{
	for (uint64_t end = page + n; page < end; page++) {
		if (!held_test(p, page))
			continue;
		held_flip(p, page);
		t->unballooned_pages++;
	}
}

int balloon_pages_inflate(
	struct balloon_pages *p, const struct virtq_chain *c, struct balloon_tally *t)
{
	return handle_pfns(p, c, inflate_pages, t);
}

int balloon_pages_deflate(
	struct balloon_pages *p, const struct virtq_chain *c, struct balloon_tally *t)
{
	return handle_pfns(p, c, deflate_pages, t);
}

/* Free ranges, each a buffer that the device might write (5.5.6.7). Whole pages only. */
int balloon_pages_report(struct balloon_pages *p, const struct virtq_chain *c, uint32_t poison,
	struct balloon_tally *t)
{
	if (c->n_readable > 0)
		return -EPROTO;
	for (unsigned i = 0; i < c->n_writable; i++) {
		uint64_t begin = u64_align_up(c->buffers[i].gpa.v, PAGE_BYTES);
		uint64_t end =
			u64_align_down(c->buffers[i].gpa.v + c->buffers[i].bytes, PAGE_BYTES);
		uint64_t page, n;

		/*
		 * A buffer lies in RAM, so its sum does not overflow, and it has a page number if
		 * it has a page.
		 */
		if (begin >= end || !guest_ram_page_of(p->ram, GPA(begin), &page))
			continue;
		n = (end - begin) / PAGE_BYTES;
		if (poison != 0) {
			t->kept_pages += n;
			continue;
		}
		forget_held(p, page, n, t);
		discard(p, page, n, HOLE_REPORTED, t);
		t->reported_pages += n;
	}
	return 0;
}

void balloon_pages_release(struct balloon_pages *p)
{
	for (uint64_t page = 0, begin; page < p->n_pages;) {
		if (page % 64 == 0 && p->held[page / 64] == 0) {
			page += 64;
			continue;
		}
		for (begin = page; page < p->n_pages && held_test(p, page); page++)
			held_flip(p, page);
		if (page > begin)
			guest_ram_undiscard(p->ram, begin, page - begin);
		else
			page++;
	}
}

static size_t held_bytes(const struct balloon_pages *p)
{
	return (p->n_pages + 63) / 64 * sizeof(*p->held);
}

void balloon_pages_save(const struct balloon_pages *p, struct snapshot_writer *w)
{
	snapshot_put(w, TAG_HELD, p->held, held_bytes(p));
}

int balloon_pages_restore(
	struct balloon_pages *p, struct snapshot_reader *r, uint64_t *ret_held_pages)
{
	uint64_t held_pages = 0;

	if (snapshot_get(r, TAG_HELD, p->held, held_bytes(p)) < 0)
		return -EINVAL;
	for (uint64_t page = 0; page < p->n_pages; page++) {
		if (!held_test(p, page))
			continue;
		guest_ram_mark_holes(p->ram, page, 1, HOLE_BALLOON);
		held_pages++;
	}
	*ret_held_pages = held_pages;
	return 0;
}
