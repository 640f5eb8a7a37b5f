/*
 * See balloon-hints.h; why dropping a hinted page is safe stands in dedup/hinted.c.
 *
 * DOC: a run
 * The log of writes starts, then the configuration shows a new command identifier. The driver
 * answers with that identifier in a buffer to be read, then with blocks of free memory, each as a
 * buffer to be written, which it keeps for itself meanwhile, and ends with the identifier STOP. All
 * of that comes in one queue, so in order. The blocks are handled together as far as the queue holds
 * them, then given back. After STOP the configuration shows DONE: the driver gives its blocks back
 * to its own kernel. A driver that does not get that far within RUN_MAX_US is told DONE as well, and
 * what it hints later under the old identifier is ignored. Identifiers are used in turn, so that
 * none comes again soon (5.5.6.5.2).
 *
 * (A driver that takes a block back early, because its guest needs the memory, is expected: that is
 * what the log is for. There is no need for it to wait for the device's answer, which a proposed
 * feature would have it do.)
 */
#include "kvm-glue/balloon-hints.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "dedup/hinted.h"
#include "memd/base/clock.h"
#include "memd/base/overflow.h"

enum {
	COMMAND_STOP = 0,
	COMMAND_DONE = 1,
	COMMAND_FIRST = 2,

	RANGES_MAX = 1024,
};

#define RUN_MAX_US (5 * US_PER_S)

struct balloon_hints {
	struct machine *m;
	balloon_hints_command command;
	void *context;
	struct hinted *hinted;
	int timer_fd;
	uint32_t id; /* the last one shown */
	bool asked; /* a run is under way, the log is on */
	bool hinting; /* the driver has answered with the identifier */
	bool restored; /* and the driver not told yet that no run is under way */
	uint64_t begin_us;

	struct virtq_chain chain;
	uint16_t heads[VIRTQ_SIZE_MAX]; /* popped, to be given back */
	unsigned n_heads;
	struct hinted_range ranges[RANGES_MAX];
	size_t n_ranges;

	pthread_mutex_t lock; /* what follows */
	struct balloon_hints_stats stats;
};

int balloon_hints_new(struct machine *m, balloon_hints_command command, void *context,
	struct balloon_hints **ret)
{
	_cleanup_(balloon_hints_freep) struct balloon_hints *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return -ENOMEM;
	pthread_mutex_init(&h->lock, NULL);
	h->m = m;
	h->command = command;
	h->context = context;
	h->id = COMMAND_FIRST - 1;
	h->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (h->timer_fd < 0)
		return -errno;
	r = hinted_new(m->ram, m->log, &h->hinted);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(h);
	return 0;
}

void balloon_hints_free(struct balloon_hints *h)
{
	if (!h)
		return;
	if (h->asked)
		hinted_end(h->hinted);
	hinted_free(h->hinted);
	cleanup_closep(&h->timer_fd);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static void set_timer(const struct balloon_hints *h, uint64_t us)
{
	const struct itimerspec t = {
		.it_value = {.tv_sec = (time_t)(us / US_PER_S),
			.tv_nsec = (long)(us % US_PER_S * 1000)},
	};

	timerfd_settime(h->timer_fd, 0, &t, NULL);
}

int balloon_hints_begin(struct balloon_hints *h)
{
	uint64_t cpu_us = clock_thread_cpu_us();
	int r;

	if (h->asked)
		return 0;
	if (!h->m->log)
		return -EOPNOTSUPP;
	h->begin_us = clock_monotonic_us();
	r = hinted_begin(h->hinted);
	if (r < 0)
		return r;
	h->asked = true;
	h->hinting = h->restored = false;
	h->id = h->id == UINT32_MAX ? COMMAND_FIRST : h->id + 1;
	set_timer(h, RUN_MAX_US);
	h->command(h->context, h->id);
	pthread_mutex_lock(&h->lock);
	h->stats.cpu_us += clock_thread_cpu_us() - cpu_us;
	pthread_mutex_unlock(&h->lock);
	return 0;
}

/* Ends the run, with nothing of it left to be handled. */
static void end_run(struct balloon_hints *h)
{
	hinted_end(h->hinted);
	h->asked = h->hinting = false;
	set_timer(h, 0);
}

static void finish(struct balloon_hints *h, uint64_t cut)
{
	if (!h->asked)
		return;
	end_run(h);
	h->command(h->context, COMMAND_DONE);
	pthread_mutex_lock(&h->lock);
	h->stats.runs++;
	h->stats.runs_cut += cut;
	h->stats.wall_us += clock_monotonic_us() - h->begin_us;
	pthread_mutex_unlock(&h->lock);
}

static void drop_collected(struct balloon_hints *h)
{
	struct hinted_counts counts = {0};

	if (h->n_ranges == 0)
		return;
	hinted_drop(h->hinted, h->ranges, h->n_ranges, &counts);
	h->n_ranges = 0;
	pthread_mutex_lock(&h->lock);
	h->stats.dropped_pages += counts.dropped_pages;
	h->stats.written_pages += counts.written_pages;
	h->stats.unsettled_pages += counts.unsettled_pages;
	pthread_mutex_unlock(&h->lock);
}

/* Collects the whole pages of a buffer. */
static void take_block(struct balloon_hints *h, const struct virtq_buffer *buffer, uint32_t poison)
{
	uint64_t begin = u64_align_up(buffer->gpa.v, PAGE_BYTES);
	uint64_t end = u64_align_down(buffer->gpa.v + buffer->bytes, PAGE_BYTES);
	uint64_t page, n;

	/* In one range of RAM (virtq_pop): see handle_report in virtio-balloon.c. */
	if (begin >= end || !guest_ram_page_of(h->m->ram, GPA(begin), &page))
		return;
	n = (end - begin) / PAGE_BYTES;
	if (poison == 0) {
		if (h->n_ranges == RANGES_MAX)
			drop_collected(h);
		h->ranges[h->n_ranges++] = (struct hinted_range){page, n};
	}
	pthread_mutex_lock(&h->lock);
	h->stats.named_pages += n;
	if (poison != 0)
		h->stats.kept_pages += n;
	pthread_mutex_unlock(&h->lock);
}

/* An identifier: all blocks before it are handled first. */
static void take_command(struct balloon_hints *h, uint32_t id)
{
	drop_collected(h);
	if (id == COMMAND_STOP && h->hinting)
		finish(h, 0);
	else
		h->hinting = h->asked && id == h->id;
}

/* -EPROTO when it is neither an identifier nor blocks. */
static int take_chain(struct balloon_hints *h, uint32_t poison)
{
	const struct virtq_chain *c = &h->chain;
	uint32_t id;

	if (c->n_readable > 0) {
		if (c->n_writable > 0 || c->readable_bytes != sizeof(id))
			return -EPROTO;
		virtq_chain_read(c, 0, &id, sizeof(id));
		take_command(h, id);
		return 0;
	}
	for (unsigned i = 0; i < c->n_writable && h->hinting; i++)
		take_block(h, &c->buffers[i], poison);
	return 0;
}

/* Handles what was collected, and gives all chains back. */
static void give_back(struct balloon_hints *h, struct virtq *q)
{
	drop_collected(h);
	for (unsigned i = 0; i < h->n_heads; i++) {
		h->chain.head = h->heads[i];
		h->chain.popped = true;
		virtq_push(q, &h->chain, 0);
	}
	h->n_heads = 0;
}

int balloon_hints_serve(
	struct balloon_hints *h, struct virtio_device *d, unsigned queue, uint32_t poison)
{
	uint64_t cpu_us = clock_thread_cpu_us();
	struct virtq *q = &d->queues[queue];
	int r = 0;

	while (h->n_heads < q->size && r == 0) {
		r = virtq_next(q, &h->chain);
		if (r != 0)
			break;
		h->chain.popped = false; /* its head is what is kept of it */
		h->heads[h->n_heads++] = h->chain.head;
		r = take_chain(h, poison);
	}
	give_back(h, q);
	virtio_device_pushed(d, queue);
	pthread_mutex_lock(&h->lock);
	h->stats.cpu_us += clock_thread_cpu_us() - cpu_us;
	pthread_mutex_unlock(&h->lock);
	if (r == VIRTQ_EMPTY)
		return 0;
	return r < 0 ? r : VIRTIO_SERVE_AGAIN;
}

int balloon_hints_fd(const struct balloon_hints *h)
{
	return h->timer_fd;
}

void balloon_hints_look_at_time(struct balloon_hints *h)
{
	uint64_t expired;

	if (read(h->timer_fd, &expired, sizeof(expired)) != sizeof(expired))
		return;
	if (h->restored && !h->asked)
		h->command(h->context, COMMAND_DONE);
	h->restored = false;
	finish(h, 1);
}

uint32_t balloon_hints_id(const struct balloon_hints *h)
{
	return h->id;
}

/* The timer that expires at once has `look_at_time` end it, as any run that takes too long. */
void balloon_hints_restored(struct balloon_hints *h, uint32_t id)
{
	h->id = id;
	h->restored = true;
	set_timer(h, 1);
}

void balloon_hints_reset(struct balloon_hints *h)
{
	if (h->asked)
		end_run(h);
	h->n_heads = 0;
	h->n_ranges = 0;
}

void balloon_hints_stats_read(struct balloon_hints *h, struct balloon_hints_stats *ret)
{
	pthread_mutex_lock(&h->lock);
	*ret = h->stats;
	pthread_mutex_unlock(&h->lock);
}
