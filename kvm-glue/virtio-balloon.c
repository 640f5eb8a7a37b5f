/*
 * virtio-balloon (virtio 1.2, 5.5).
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
 * Queues are numbered by what was negotiated, without gaps, as drivers and devices do it in
 * practice: the inflate and the deflate queue, then those of statistics, of free page hinting
 * (balloon-hints.c) and of reporting, if there are such.
 *
 * After a reset the balloon is empty: the driver has forgotten it.
 *
 * Must never: take `lock` while it touches guest memory or waits for run_lock (the control thread
 * takes `lock`); discard a page that the guest did not name.
 */
#include "kvm-glue/virtio-balloon.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "kvm-glue/balloon-hints.h"
#include "kvm-glue/virtio-device.h"
#include "kvm-glue/virtio-pci.h"
#include "memd/base/clock.h"
#include "memd/base/overflow.h"

enum {
	F_STATS_VQ = 1,
	F_DEFLATE_ON_OOM = 2,
	F_FREE_PAGE_HINT = 3,
	F_PAGE_POISON = 4,
	F_PAGE_REPORTING = 5,

	QUEUE_SIZE = 128,
	PFNS_AT_ONCE = 1024, /* one page of them: as large a request as drivers make */
};

#define FEATURE(bit) (UINT64_C(1) << (bit))

/* What a queue is for. */
enum role {
	ROLE_INFLATE,
	ROLE_DEFLATE,
	ROLE_CLAIMS,
	ROLE_HINTS,
	ROLE_REPORTING,
	ROLES_MAX,
};

/* 5.5.4 */
struct balloon_config {
	uint32_t num_pages;
	uint32_t actual;
	uint32_t free_page_hint_cmd_id;
	uint32_t poison_val;
};

#define TAG_BALLOON SNAPSHOT_TAG('b', 'a', 'l', 'l')
#define TAG_HELD    SNAPSHOT_TAG('h', 'e', 'l', 'd') /* the bitmap */

struct saved_balloon {
	struct balloon_config config;
	uint32_t poison;
	uint32_t hint_id;
};

struct virtio_balloon {
	struct virtio_device device; /* first */
	struct virtio_pci *pci;
	uint64_t ram_pages;
	struct balloon_hints *hints;
	_Atomic bool claims_wanted;
	_Atomic bool hints_wanted;
	_Atomic bool hints_negotiated;

	/* under run_lock */
	enum role roles[ROLES_MAX];
	uint32_t poison; /* poison_val as it was at DRIVER_OK; 0 without the feature */
	uint64_t *held; /* bitmap by page number: in the balloon */
	struct virtq_chain chain; /* the one at work */
	struct virtq_chain claims_chain; /* kept until statistics are asked for */
	uint32_t pfns[PFNS_AT_ONCE];

	pthread_mutex_t lock; /* what follows; never held for longer than a copy */
	struct balloon_config config;
	struct virtio_balloon_stats stats;
};

static struct virtio_balloon *of_device(struct virtio_device *d)
{
	return (struct virtio_balloon *)d;
}

static bool held_test(const struct virtio_balloon *b, uint64_t page)
{
	return b->held[page / 64] >> page % 64 & 1;
}

static void held_flip(struct virtio_balloon *b, uint64_t page)
{
	b->held[page / 64] ^= UINT64_C(1) << page % 64;
}

/* What handling a request changed; added to the statistics once, at its end. */
struct tally {
	uint64_t inflated_pages;
	uint64_t deflated_pages;
	uint64_t reported_pages;
	uint64_t unballooned_pages; /* were in the balloon and were reported free */
	uint64_t ignored_pages;
	uint64_t kept_pages;
	uint64_t discard_calls;
	uint64_t discard_ranges;
};

static void tally_commit(struct virtio_balloon *b, const struct tally *t)
{
	struct virtio_balloon_stats *s = &b->stats;

	pthread_mutex_lock(&b->lock);
	s->inflated_pages += t->inflated_pages;
	s->deflated_pages += t->deflated_pages;
	s->actual_pages += t->inflated_pages - t->deflated_pages - t->unballooned_pages;
	s->reported_pages += t->reported_pages;
	s->ignored_pages += t->ignored_pages;
	s->poison_reports += t->kept_pages;
	s->discard_calls += t->discard_calls;
	s->discard_ranges += t->discard_ranges;
	pthread_mutex_unlock(&b->lock);
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
static size_t pfns_to_pages(struct virtio_balloon *b, size_t n, struct tally *t)
{
	size_t kept = 0, unique = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t page;

		if (guest_ram_page_of(b->device.machine->ram,
			    GPA((uint64_t)b->pfns[i] << PAGE_SHIFT_4K), &page))
			b->pfns[kept++] = (uint32_t)page;
	}
	qsort(b->pfns, kept, sizeof(b->pfns[0]), compare_pages);
	for (size_t i = 0; i < kept; i++)
		if (i == 0 || b->pfns[i] != b->pfns[unique - 1])
			b->pfns[unique++] = b->pfns[i];
	t->ignored_pages += n - unique;
	return unique;
}

/*
 * Discards a range the guest gave. A failure leaves the pages as they were, which the guest cannot
 * tell.
 */
static void discard(
	struct virtio_balloon *b, uint64_t page, uint64_t n, enum hole_reason why, struct tally *t)
{
	guest_ram_discard(b->device.machine->ram, page, n, why, &t->discard_calls);
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

static void inflate_pages(struct virtio_balloon *b, size_t n, struct tally *t)
{
	for (size_t i = 0, run; i < n; i += run) {
		run = run_length(b->pfns, i, n);
		discard(b, b->pfns[i], run, HOLE_BALLOON, t);
	}
	for (size_t i = 0; i < n; i++) {
		if (held_test(b, b->pfns[i])) {
			t->ignored_pages++;
			continue;
		}
		held_flip(b, b->pfns[i]);
		t->inflated_pages++;
	}
}

static void deflate_pages(struct virtio_balloon *b, size_t n, struct tally *t)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		if (!held_test(b, b->pfns[i])) {
			t->ignored_pages++;
			continue;
		}
		held_flip(b, b->pfns[i]);
		b->pfns[kept++] = b->pfns[i];
	}
	t->deflated_pages += kept;
	for (size_t i = 0, run; i < kept; i += run) {
		run = run_length(b->pfns, i, kept);
		guest_ram_undiscard(b->device.machine->ram, b->pfns[i], run);
	}
}

/*
 * An array of le32 PFNs (5.5.6). -EPROTO when it is not one: something to write, not a multiple of
 * four bytes, or more entries than the guest has pages.
 */
static int handle_pfns(struct virtio_balloon *b,
	void (*handle)(struct virtio_balloon *, size_t, struct tally *), struct tally *t)
{
	const struct virtq_chain *c = &b->chain;

	if (c->n_writable > 0 || c->readable_bytes % sizeof(b->pfns[0]) != 0 ||
		c->readable_bytes / sizeof(b->pfns[0]) > b->ram_pages)
		return -EPROTO;
	for (uint64_t at = 0; at < c->readable_bytes;) {
		size_t bytes = virtq_chain_read(c, at, b->pfns, sizeof(b->pfns));

		handle(b, pfns_to_pages(b, bytes / sizeof(b->pfns[0]), t), t);
		at += bytes;
	}
	return 0;
}

/* A page that is reported free is not in the balloon, whatever the guest said before. */
static void forget_held(struct virtio_balloon *b, uint64_t page, uint64_t n, struct tally *t)
{
	for (uint64_t p = page; p < page + n; p++) {
		if (!held_test(b, p))
			continue;
		held_flip(b, p);
		t->unballooned_pages++;
	}
}

/* Free ranges, each a buffer that the device might write (5.5.6.7). Whole pages only. */
static int handle_report(struct virtio_balloon *b, struct tally *t)
{
	const struct virtq_chain *c = &b->chain;

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
		if (begin >= end || !guest_ram_page_of(b->device.machine->ram, GPA(begin), &page))
			continue;
		n = (end - begin) / PAGE_BYTES;
		if (b->poison != 0) {
			t->kept_pages += n;
			continue;
		}
		forget_held(b, page, n, t);
		discard(b, page, n, HOLE_REPORTED, t);
		t->reported_pages += n;
	}
	return 0;
}

/* Gives the buffer of the statistics queue back, which asks the driver for fresh ones (5.5.6.3). */
static void claims_ask(struct virtio_balloon *b)
{
	for (unsigned q = 0; q < ROLES_MAX; q++) {
		if (b->roles[q] != ROLE_CLAIMS || !b->claims_chain.popped)
			continue;
		virtq_push(&b->device.queues[q], &b->claims_chain, 0);
		virtio_device_pushed(&b->device, q);
	}
}

/*
 * Takes over the statistics in b->chain and keeps the buffer. -EPROTO when there is something to
 * write in it.
 */
static int handle_claims(struct virtio_balloon *b)
{
	struct virtio_balloon_claims claims;

	/* One at a time is the rule (5.5.6.3.1); of two, the older goes back. */
	claims_ask(b);
	b->claims_chain = b->chain;
	b->chain.popped = false;
	if (b->claims_chain.n_writable > 0)
		return -EPROTO;
	if (!balloon_claims_parse(&b->claims_chain, &claims))
		return 0;
	claims.time_us = clock_monotonic_us();
	pthread_mutex_lock(&b->lock);
	b->stats.claims = claims;
	pthread_mutex_unlock(&b->lock);
	return 0;
}

/* Handles b->chain; but for statistics it is then done with. */
static int handle(struct virtio_balloon *b, enum role role, struct tally *t)
{
	switch (role) {
	case ROLE_INFLATE:
		return handle_pfns(b, inflate_pages, t);
	case ROLE_DEFLATE:
		return handle_pfns(b, deflate_pages, t);
	case ROLE_REPORTING:
		return handle_report(b, t);
	default:
		return handle_claims(b);
	}
}

static int balloon_serve(struct virtio_device *d, unsigned queue)
{
	struct virtio_balloon *b = of_device(d);
	struct virtq *q = &d->queues[queue];
	int r = 0;

	if (b->roles[queue] == ROLE_HINTS)
		return balloon_hints_serve(b->hints, d, queue, b->poison);
	for (unsigned n = 0; n < q->size && r == 0; n++) {
		struct tally t = {0};

		r = virtq_pop(q, &b->chain);
		if (r == VIRTQ_EMPTY && virtq_rearm(q))
			r = virtq_pop(q, &b->chain);
		if (r != 0)
			break;
		r = handle(b, b->roles[queue], &t);
		tally_commit(b, &t);
		if (b->chain.popped)
			virtq_push(q, &b->chain, 0);
	}
	virtio_device_pushed(d, queue);
	if (r == VIRTQ_EMPTY)
		return 0;
	return r < 0 ? r : VIRTIO_SERVE_AGAIN;
}

static int balloon_woken(struct virtio_device *d)
{
	struct virtio_balloon *b = of_device(d);

	if (atomic_exchange(&b->claims_wanted, false))
		claims_ask(b);
	balloon_hints_look_at_time(b->hints);
	/* What cannot be asked for now is asked for again, if it is still wanted then. */
	if (atomic_exchange(&b->hints_wanted, false) && atomic_load(&b->hints_negotiated))
		balloon_hints_begin(b->hints);
	return 0;
}

static void balloon_watch(struct virtio_device *d, struct pollfd *ret)
{
	*ret = (struct pollfd){.fd = balloon_hints_fd(of_device(d)->hints), .events = POLLIN};
}

static void set_hint_command(void *context, uint32_t id)
{
	struct virtio_balloon *b = context;

	pthread_mutex_lock(&b->lock);
	b->config.free_page_hint_cmd_id = id;
	pthread_mutex_unlock(&b->lock);
	b->device.transport_ops->interrupt_config(&b->device);
}

static void balloon_config_read(
	struct virtio_device *d, uint32_t offset, uint8_t *data, unsigned size)
{
	struct virtio_balloon *b = of_device(d);

	pthread_mutex_lock(&b->lock);
	memcpy(data, (const uint8_t *)&b->config + offset, size);
	pthread_mutex_unlock(&b->lock);
}

static void balloon_config_write(
	struct virtio_device *d, uint32_t offset, const uint8_t *data, unsigned size)
{
	struct virtio_balloon *b = of_device(d);
	struct balloon_config c;

	pthread_mutex_lock(&b->lock);
	c = b->config;
	memcpy((uint8_t *)&c + offset, data, size);
	b->config.actual = c.actual;
	b->config.poison_val = c.poison_val;
	pthread_mutex_unlock(&b->lock);
}

static void balloon_started(struct virtio_device *d)
{
	struct virtio_balloon *b = of_device(d);
	unsigned q = 0;

	b->roles[q++] = ROLE_INFLATE;
	b->roles[q++] = ROLE_DEFLATE;
	if (d->features & FEATURE(F_STATS_VQ))
		b->roles[q++] = ROLE_CLAIMS;
	if (d->features & FEATURE(F_FREE_PAGE_HINT))
		b->roles[q++] = ROLE_HINTS;
	if (d->features & FEATURE(F_PAGE_REPORTING))
		b->roles[q++] = ROLE_REPORTING;
	for (unsigned i = 0; i < q; i++)
		d->queues[i].unwritten = true; /* reports and hints only name memory */
	/* The driver has no business with the rest. */
	for (; q < ROLES_MAX; q++)
		virtq_done(&d->queues[q]);
	pthread_mutex_lock(&b->lock);
	b->poison = d->features & FEATURE(F_PAGE_POISON) ? b->config.poison_val : 0;
	pthread_mutex_unlock(&b->lock);
	atomic_store(&b->hints_negotiated, (d->features & FEATURE(F_FREE_PAGE_HINT)) != 0);
}

/* The pages of the balloon are the guest's again: ordinary holes. */
static void release_held(struct virtio_balloon *b)
{
	for (uint64_t page = 0, begin; page < b->ram_pages;) {
		if (page % 64 == 0 && b->held[page / 64] == 0) {
			page += 64;
			continue;
		}
		for (begin = page; page < b->ram_pages && held_test(b, page); page++)
			held_flip(b, page);
		if (page > begin)
			guest_ram_undiscard(b->device.machine->ram, begin, page - begin);
		else
			page++;
	}
}

static void balloon_stopped(struct virtio_device *d)
{
	struct virtio_balloon *b = of_device(d);

	b->chain.popped = false;
	b->claims_chain.popped = false;
	b->poison = 0;
	atomic_store(&b->hints_negotiated, false);
	balloon_hints_reset(b->hints);
	release_held(b);
	pthread_mutex_lock(&b->lock);
	b->config.actual = 0;
	b->config.free_page_hint_cmd_id = 0; /* STOP */
	b->config.poison_val = 0;
	b->stats.actual_pages = 0;
	balloon_claims_clear(&b->stats.claims);
	pthread_mutex_unlock(&b->lock);
}

static int balloon_save(struct virtio_device *d, struct snapshot_writer *w)
{
	struct virtio_balloon *b = of_device(d);
	struct saved_balloon saved = {
		.poison = b->poison,
		.hint_id = balloon_hints_id(b->hints),
	};

	for (unsigned q = 0; q < ROLES_MAX; q++)
		if (b->claims_chain.popped && b->roles[q] == ROLE_CLAIMS)
			virtq_unpop(&d->queues[q], &b->claims_chain);
	pthread_mutex_lock(&b->lock);
	saved.config = b->config;
	pthread_mutex_unlock(&b->lock);
	snapshot_put(w, TAG_BALLOON, &saved, sizeof(saved));
	snapshot_put(w, TAG_HELD, b->held, (b->ram_pages + 63) / 64 * sizeof(*b->held));
	return 0;
}

static int balloon_restore(struct virtio_device *d, struct snapshot_reader *r)
{
	struct virtio_balloon *b = of_device(d);
	const size_t n_words = (b->ram_pages + 63) / 64;
	struct saved_balloon saved;
	uint64_t held_pages = 0;

	if (snapshot_get(r, TAG_BALLOON, &saved, sizeof(saved)) < 0 ||
		snapshot_get(r, TAG_HELD, b->held, n_words * sizeof(*b->held)) < 0)
		return -EINVAL;
	for (uint64_t page = 0; page < b->ram_pages; page++) {
		if (!held_test(b, page))
			continue;
		guest_ram_mark_holes(d->machine->ram, page, 1, HOLE_BALLOON);
		held_pages++;
	}
	b->poison = saved.poison;
	balloon_hints_restored(b->hints, saved.hint_id);
	pthread_mutex_lock(&b->lock);
	b->config = saved.config;
	b->stats.actual_pages = held_pages;
	b->stats.target_pages = saved.config.num_pages;
	pthread_mutex_unlock(&b->lock);
	return 0;
}

static const struct virtio_class balloon_class = {
	.name = "memd-balloon",
	.id = 5,
	.pci_class_code = 0xff0000, /* fits no class */
	.n_queues = ROLES_MAX,
	.queue_size = QUEUE_SIZE,
	.features = FEATURE(F_STATS_VQ) | FEATURE(F_DEFLATE_ON_OOM) | FEATURE(F_FREE_PAGE_HINT) |
		    FEATURE(F_PAGE_POISON) | FEATURE(F_PAGE_REPORTING),
	.config_bytes = sizeof(struct balloon_config),
	.config_read = balloon_config_read,
	.config_write = balloon_config_write,
	.started = balloon_started,
	.stopped = balloon_stopped,
	.serve = balloon_serve,
	.woken = balloon_woken,
	.save = balloon_save,
	.restore = balloon_restore,
	.watch = balloon_watch,
};

int virtio_balloon_new(
	struct machine *m, struct pci_bus *pci, unsigned slot, struct virtio_balloon **ret)
{
	_cleanup_(virtio_balloon_freep) struct virtio_balloon *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	pthread_mutex_init(&b->lock, NULL);
	balloon_claims_clear(&b->stats.claims);
	r = virtio_device_init(&b->device, &balloon_class, m);
	if (r < 0)
		return r;
	b->ram_pages = guest_ram_pages(m->ram);
	b->held = calloc((b->ram_pages + 63) / 64, sizeof(*b->held));
	if (!b->held)
		return -ENOMEM;
	r = balloon_hints_new(m, set_hint_command, b, &b->hints);
	if (r < 0)
		return r;
	r = virtio_pci_new(m, pci, slot, &b->device, &b->pci);
	if (r < 0)
		return r;
	r = virtio_device_run(&b->device);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(b);
	return 0;
}

void virtio_balloon_free(struct virtio_balloon *b)
{
	if (!b)
		return;
	virtio_device_halt(&b->device);
	virtio_pci_free(b->pci);
	virtio_device_done(&b->device);
	balloon_hints_free(b->hints);
	pthread_mutex_destroy(&b->lock);
	free(b->held);
	free(b);
}

void virtio_balloon_set_target(struct virtio_balloon *b, uint64_t pages)
{
	bool changed;

	pages = u64_min(u64_min(pages, b->ram_pages), UINT32_MAX);
	pthread_mutex_lock(&b->lock);
	changed = b->config.num_pages != pages;
	b->config.num_pages = (uint32_t)pages;
	pthread_mutex_unlock(&b->lock);
	if (changed)
		b->device.transport_ops->interrupt_config(&b->device);
}

void virtio_balloon_request_claims(struct virtio_balloon *b)
{
	atomic_store(&b->claims_wanted, true);
	virtio_device_wake(&b->device);
}

int virtio_balloon_request_hints(struct virtio_balloon *b)
{
	if (!atomic_load(&b->device.running))
		return -ENOTCONN;
	if (!atomic_load(&b->hints_negotiated))
		return -EOPNOTSUPP;
	atomic_store(&b->hints_wanted, true);
	virtio_device_wake(&b->device);
	return 0;
}

void virtio_balloon_stats_read(struct virtio_balloon *b, struct virtio_balloon_stats *ret)
{
	pthread_mutex_lock(&b->lock);
	*ret = b->stats;
	ret->target_pages = b->config.num_pages;
	ret->claimed_pages = b->config.actual;
	pthread_mutex_unlock(&b->lock);
	balloon_hints_stats_read(b->hints, &ret->hints);
	ret->hints_negotiated = atomic_load(&b->hints_negotiated);
	ret->ready = atomic_load(&b->device.running);
	ret->needs_reset = atomic_load(&b->device.needs_reset_count);
}
