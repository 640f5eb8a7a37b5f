/* See balloon.h. */
#include "tests/guest/memd-guest/balloon.h"
#include "tests/guest/memd-guest/cmdline.h"
#include "tests/guest/memd-guest/hints.h"
#include "tests/guest/memd-guest/line.h"
#include "tests/guest/memd-guest/memory.h"
#include "tests/guest/memd-guest/virtio.h"

#define F_MUST_TELL_HOST (UINT64_C(1) << 0)
#define F_STATS		 (UINT64_C(1) << 1)
#define F_FREE_PAGE_HINT (UINT64_C(1) << 3)
#define F_REPORTING	 (UINT64_C(1) << 5)

#define CONFIG_NUM_PAGES 0
#define CONFIG_ACTUAL	 4

#define POLL_NS	      (NS_PER_S / 20) /* of the target: each look is an exit */
#define BATCH_PAGES   256 /* as Linux */
#define REPORT_RANGES 32 /* in one request */
#define REPORT_BYTES_MAX                                                                           \
	(UINT64_C(4) << 20) /* in one range: the largest block of Linux' allocator */

enum stat_tag {
	STAT_MEMFREE = 4,
	STAT_MEMTOT = 5,
	STAT_AVAIL = 6,
};

static struct virtio_device *device;
static struct virtqueue inflate_queue, deflate_queue, stats_queue, reporting_queue;
static bool has_stats, has_reporting, check_returned;

static struct page_stack held; /* in the balloon */
static struct page_stack reporting; /* free, and being reported */
static uint64_t n_reporting_sent; /* of those, acknowledged or under way, from the beginning */
static uint32_t batch[BATCH_PAGES]; /* guest page frame numbers for the device */
static uint32_t batch_pages[BATCH_PAGES];
static unsigned n_batch;
static uint64_t target, next_poll_ns;
static uint64_t n_reported, n_returned, n_returned_dirty;

static struct {
	uint16_t tag;
	uint64_t value;
} __attribute__((packed)) stats[3];

static void send_stats(void)
{
	uint64_t free_bytes = free_pages_count() * GUEST_PAGE;
	struct virtio_segment segment = {stats, sizeof(stats)};

	stats[0].tag = STAT_MEMFREE;
	stats[0].value = free_bytes;
	stats[1].tag = STAT_MEMTOT;
	stats[1].value = memory_ram_bytes() - held.n * GUEST_PAGE;
	stats[2].tag = STAT_AVAIL;
	stats[2].value = free_bytes;
	virtio_submit(&stats_queue, &segment, 1, 0);
}

/* The queues are numbered without gaps over what was agreed (5.5.2). */
static bool init_queues(void)
{
	uint16_t index = 2;

	if (!virtio_queue_init(device, &inflate_queue, 0) ||
		!virtio_queue_init(device, &deflate_queue, 1))
		return false;
	if (has_stats && !virtio_queue_init(device, &stats_queue, index))
		return false;
	index += has_stats;
	if ((device->features & F_FREE_PAGE_HINT) && !hints_init_queue(device, index++))
		return false;
	return !has_reporting || virtio_queue_init(device, &reporting_queue, index);
}

void balloon_init(uint64_t capacity)
{
	uint64_t wanted = F_MUST_TELL_HOST | F_STATS | F_REPORTING;

	device = virtio_find(VIRTIO_ID_BALLOON);
	if (!device)
		return;
	check_returned = cmdline_number("check_returned", 0);
	page_stack_init(&held, capacity);
	if (!cmdline_number("reporting", 1))
		wanted &= ~F_REPORTING;
	if (hints_wanted())
		wanted |= F_FREE_PAGE_HINT;
	if (!virtio_start(device, wanted))
		line_print_and_stop("the balloon refuses the features it offered");
	has_stats = device->features & F_STATS;
	has_reporting = device->features & F_REPORTING;
	if (!init_queues())
		line_print_and_stop("the balloon lacks a queue");
	virtio_driver_ok(device);
}

static void submit_batch(struct virtqueue *q)
{
	struct virtio_segment segment = {batch, n_batch * (uint32_t)sizeof(batch[0])};

	virtio_submit(q, &segment, 1, 0);
}

static void write_actual(void)
{
	MMIO_WRITE(uint32_t, device->config + CONFIG_ACTUAL, (uint32_t)held.n);
}

static void start_inflate(uint64_t n)
{
	for (n_batch = 0; n_batch < MIN(n, BATCH_PAGES); n_batch++) {
		uint32_t page;

		if (!free_pages_take(&page))
			break;
		batch_pages[n_batch] = page;
		batch[n_batch] = (uint32_t)((uintptr_t)memory_page(page) / GUEST_PAGE);
	}
	if (n_batch)
		submit_batch(&inflate_queue);
}

static void start_deflate(uint64_t n)
{
	for (n_batch = 0; n_batch < MIN(n, BATCH_PAGES) && held.n; n_batch++) {
		batch_pages[n_batch] = held.items[--held.n];
		batch[n_batch] =
			(uint32_t)((uintptr_t)memory_page(batch_pages[n_batch]) / GUEST_PAGE);
	}
	submit_batch(&deflate_queue);
}

static bool is_zero(const volatile uint64_t *page)
{
	uint64_t bits = 0;

	for (unsigned i = 0; i < GUEST_PAGE / sizeof(*page); i++)
		bits |= page[i];
	return !bits;
}

static void finish_deflate(void)
{
	/* backwards, so that pages are taken again in the order in which they were before */
	for (unsigned i = n_batch; i-- > 0;) {
		if (check_returned && !is_zero(memory_page(batch_pages[i])))
			n_returned_dirty++;
		free_pages_give(batch_pages[i]);
	}
	n_returned += n_batch;
	write_actual();
}

static void finish_inflate(void)
{
	for (unsigned i = 0; i < n_batch; i++)
		page_stack_push(&held, batch_pages[i]);
	write_actual();
}

/* Neighbours in the list that are neighbours in memory become one range. */
static void start_report(void)
{
	struct virtio_segment ranges[REPORT_RANGES];
	unsigned n = 0;

	for (; n_reporting_sent < reporting.n; n_reporting_sent++) {
		uint8_t *page = (uint8_t *)memory_page(reporting.items[n_reporting_sent]);

		if (n && (const uint8_t *)ranges[n - 1].address + ranges[n - 1].bytes == page &&
			ranges[n - 1].bytes < REPORT_BYTES_MAX) {
			ranges[n - 1].bytes += (uint32_t)GUEST_PAGE;
			continue;
		}
		if (n == MIN(REPORT_RANGES, reporting_queue.size))
			break;
		ranges[n].address = page;
		ranges[n++].bytes = (uint32_t)GUEST_PAGE;
	}
	virtio_submit(&reporting_queue, ranges, n, VIRTQ_DESC_WRITE);
}

static void service_reporting(void)
{
	if (reporting_queue.busy && virtio_done(&reporting_queue) &&
		n_reporting_sent == reporting.n) {
		n_reported += reporting.n;
		/* backwards: lowest on top, to be taken first */
		while (reporting.n)
			free_pages_give(reporting.items[--reporting.n]);
		n_reporting_sent = 0;
	}
	if (!reporting_queue.busy && n_reporting_sent < reporting.n)
		start_report();
}

static bool service_size(uint64_t now_ns)
{
	if (inflate_queue.busy) {
		if (!virtio_done(&inflate_queue))
			return true;
		finish_inflate();
	}
	if (deflate_queue.busy) {
		if (!virtio_done(&deflate_queue))
			return true;
		finish_deflate();
	}
	if (now_ns >= next_poll_ns) {
		next_poll_ns = now_ns + POLL_NS;
		target = MMIO_READ(uint32_t, device->config + CONFIG_NUM_PAGES);
	}
	if (held.n < target)
		start_inflate(target - held.n);
	else if (held.n > target)
		start_deflate(held.n - target);
	return inflate_queue.busy || deflate_queue.busy;
}

bool balloon_service(uint64_t now_ns)
{
	if (!device)
		return false;
	/* the device keeps the buffer until it wants fresh figures (5.5.6.1) */
	if (has_stats && (!stats_queue.busy || virtio_done(&stats_queue)))
		send_stats();
	if (has_reporting)
		service_reporting();
	return service_size(now_ns);
}

void balloon_report_free(struct page_stack *s)
{
	if (has_reporting) {
		reporting = *s;
		n_reporting_sent = 0;
	} else {
		while (s->n)
			free_pages_give(s->items[--s->n]);
	}
	s->n = 0;
}

bool balloon_reports(void)
{
	return reporting.n > 0;
}

uint64_t balloon_pages(void)
{
	return held.n;
}

uint64_t balloon_reported_pages(void)
{
	return n_reported;
}

uint64_t balloon_returned_pages(void)
{
	return n_returned;
}

uint64_t balloon_returned_dirty_pages(void)
{
	return n_returned_dirty;
}
