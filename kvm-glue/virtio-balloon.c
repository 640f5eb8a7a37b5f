/*
 * virtio-balloon (virtio 1.2, 5.5): the device, its queues and its configuration. What becomes of
 * pages is in balloon-pages.c, of statistics in balloon-claims.c, of hints in balloon-hints.c.
 *
 * Queues are numbered by what was negotiated, without gaps, as drivers and devices do it in
 * practice: the inflate and the deflate queue, then those of statistics, of free page hinting
 * (balloon-hints.c) and of reporting, if there are such.
 *
 * Must never: take `lock` while it touches guest memory or waits for run_lock (the control thread
 * takes `lock`).
 */
#include "kvm-glue/virtio-balloon.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "kvm-glue/balloon-hints.h"
#include "kvm-glue/balloon-pages.h"
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

struct saved_balloon {
	struct balloon_config config;
	uint32_t poison;
	uint32_t hint_id;
};

struct virtio_balloon {
	struct virtio_device device; /* first */
	struct virtio_pci *pci;
	struct balloon_pages *pages; /* under run_lock */
	struct balloon_hints *hints;
	_Atomic bool claims_wanted;
	_Atomic bool hints_wanted;
	_Atomic bool hints_negotiated;

	/* under run_lock */
	enum role roles[ROLES_MAX];
	uint32_t poison; /* poison_val as it was at DRIVER_OK; 0 without the feature */
	struct virtq_chain chain; /* the one at work */
	struct virtq_chain claims_chain; /* kept until statistics are asked for */

	pthread_mutex_t lock; /* what follows; never held for longer than a copy */
	struct balloon_config config;
	struct virtio_balloon_stats stats;
};

static struct virtio_balloon *of_device(struct virtio_device *d)
{
	return (struct virtio_balloon *)d;
}

/* Adds what a request changed to the statistics. */
static void tally_commit(struct virtio_balloon *b, const struct balloon_tally *t)
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
	s->cpu_us += t->cpu_us;
	pthread_mutex_unlock(&b->lock);
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
static int handle(struct virtio_balloon *b, enum role role, struct balloon_tally *t)
{
	switch (role) {
	case ROLE_INFLATE:
		return balloon_pages_inflate(b->pages, &b->chain, t);
	case ROLE_DEFLATE:
		return balloon_pages_deflate(b->pages, &b->chain, t);
	case ROLE_REPORTING:
		return balloon_pages_report(b->pages, &b->chain, b->poison, t);
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
		struct balloon_tally t = {0};
		uint64_t cpu_us;

		r = virtq_next(q, &b->chain);
		if (r != 0)
			break;
		cpu_us = clock_thread_cpu_us();
		r = handle(b, b->roles[queue], &t);
		t.cpu_us = clock_thread_cpu_us() - cpu_us;
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

static void balloon_stopped(struct virtio_device *d)
{
	struct virtio_balloon *b = of_device(d);

	b->chain.popped = false;
	b->claims_chain.popped = false;
	b->poison = 0;
	atomic_store(&b->hints_negotiated, false);
	balloon_hints_reset(b->hints);
	balloon_pages_release(b->pages);
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
	balloon_pages_save(b->pages, w);
	return 0;
}

static int balloon_restore(struct virtio_device *d, struct snapshot_reader *r)
{
	struct virtio_balloon *b = of_device(d);
	struct saved_balloon saved;
	uint64_t held_pages;

	if (snapshot_get(r, TAG_BALLOON, &saved, sizeof(saved)) < 0 ||
		balloon_pages_restore(b->pages, r, &held_pages) < 0)
		return -EINVAL;
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
	r = balloon_pages_new(m->ram, &b->pages);
	if (r < 0)
		return r;
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
	balloon_pages_free(b->pages);
	free(b);
}

void virtio_balloon_set_target(struct virtio_balloon *b, uint64_t pages)
{
	bool changed;

	pages = u64_min(u64_min(pages, guest_ram_pages(b->device.machine->ram)), UINT32_MAX);
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
