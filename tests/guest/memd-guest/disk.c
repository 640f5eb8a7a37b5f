/* See disk.h. */
#include "tests/guest/memd-guest/disk.h"
#include "tests/guest/memd-guest/cmdline.h"
#include "tests/guest/memd-guest/cpu.h"
#include "tests/guest/memd-guest/line.h"
#include "tests/guest/memd-guest/memory.h"
#include "tests/guest/memd-guest/page-content.h"
#include "tests/guest/memd-guest/time.h"
#include "tests/guest/memd-guest/virtio.h"

#define F_MQ	     (UINT64_C(1) << 12)
#define F_FLUSH	     (UINT64_C(1) << 9)
#define DISK_QUEUES  4
#define SLOT_PAGES   32
#define READS	     6 /* of each generation */
#define WAIT_NS_MAX  2000000 /* before a read: time for the host to look at the pages */
#define COMMON_PAGES 16 /* different ones */

#define CONFIG_CAPACITY	  0
#define CONFIG_NUM_QUEUES 34
#define SECTOR_BYTES	  512
#define BLOCK_SECTORS	  (GUEST_PAGE / SECTOR_BYTES)

enum request_type {
	REQUEST_IN = 0,
	REQUEST_OUT = 1,
};

struct slot {
	struct virtqueue queue;
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} header;
	uint8_t status;
	uint8_t *pages; /* SLOT_PAGES of them, one after the other */
	uint64_t first_block;
	enum {
		SLOT_WRITING,
		SLOT_TEMPTING, /* the pages hold what the host wants to have; until wait_ns */
		SLOT_READING,
	} state;
	unsigned reads_left;
	uint32_t round; /* whole-page generation on the disk */
	uint64_t wait_ns;
};

static struct virtio_device *device;
static struct slot slots[DISK_QUEUES];
static unsigned n_slots;
static uint64_t n_read, n_written, random_state;

static void submit(struct slot *s, enum request_type type, uint64_t block, unsigned n_pages)
{
	struct virtio_segment segments[SLOT_PAGES + 2];

	s->header.type = type;
	s->header.sector = block * BLOCK_SECTORS;
	s->status = UINT8_MAX;
	segments[0] = (struct virtio_segment){&s->header, sizeof(s->header)};
	for (unsigned i = 0; i < n_pages; i++)
		segments[1 + i] = (struct virtio_segment){s->pages + i * GUEST_PAGE, GUEST_PAGE};
	segments[1 + n_pages] = (struct virtio_segment){&s->status, 1};
	virtio_submit_mixed(&s->queue, segments, n_pages + 2, type == REQUEST_IN ? 1 : 1 + n_pages);
}

static bool is_done(struct slot *s)
{
	if (!virtio_done(&s->queue))
		return false;
	if (MMIO_READ(uint8_t, &s->status) != 0)
		line_print_and_stop("the disk failed");
	return true;
}

static uint64_t *page_of(const struct slot *s, unsigned i)
{
	return (uint64_t *)(s->pages + i * GUEST_PAGE);
}

static uint32_t generation_of(const struct slot *s)
{
	return s->round * GENERATION_ROUND;
}

static void start_write(struct slot *s, struct area_counters *c)
{
	s->round++;
	for (unsigned i = 0; i < SLOT_PAGES; i++)
		area_write(c, AREA_DISK, s->first_block + i, page_of(s, i), generation_of(s));
	s->state = SLOT_WRITING;
	s->reads_left = READS;
	submit(s, REQUEST_OUT, s->first_block, SLOT_PAGES);
}

/* A page of zeros, or one that other guests and other pages of this one have, too. */
static void tempt(struct slot *s, struct area_counters *c, uint64_t now_ns)
{
	for (unsigned i = 0; i < SLOT_PAGES; i++) {
		uint64_t *page = page_of(s, i);

		if ((i + s->reads_left) % 2) {
			area_write(c, AREA_COMMON, i % COMMON_PAGES, page, 0);
			continue;
		}
		for (unsigned word = 0; word < GUEST_PAGE / sizeof(*page); word++)
			((volatile uint64_t *)page)[word] = 0;
	}
	s->state = SLOT_TEMPTING;
	s->wait_ns = now_ns + content_mix(random_state++) % WAIT_NS_MAX;
}

static void finish_read(struct slot *s, struct area_counters *c)
{
	for (unsigned i = 0; i < SLOT_PAGES; i++)
		area_verify(c, AREA_DISK, s->first_block + i, page_of(s, i), generation_of(s));
	n_read += SLOT_PAGES;
}

static void slot_step(struct slot *s, struct area_counters *c, uint64_t now_ns)
{
	switch (s->state) {
	case SLOT_TEMPTING:
		if (now_ns < s->wait_ns)
			return;
		s->reads_left--;
		s->state = SLOT_READING;
		submit(s, REQUEST_IN, s->first_block, SLOT_PAGES);
		return;
	case SLOT_READING:
		if (!is_done(s))
			return;
		finish_read(s, c);
		break;
	case SLOT_WRITING:
		if (s->queue.busy && !is_done(s))
			return;
		n_written += s->round ? SLOT_PAGES : 0;
		break;
	}
	if (s->reads_left)
		tempt(s, c, now_ns);
	else
		start_write(s, c);
}

bool disk_service(struct area_counters *c, uint64_t now_ns)
{
	for (unsigned i = 0; i < n_slots; i++)
		slot_step(&slots[i], c, now_ns);
	return n_slots > 0;
}

/* Reads until the time is over: the whole disk in order, or single blocks of it anywhere. */
static void bench(bool sequential)
{
	uint64_t n_blocks = MMIO_READ(uint64_t, device->config + CONFIG_CAPACITY) / BLOCK_SECTORS;
	uint64_t start_ns = time_ns(), end_ns, next = 0, blocks = 0, requests = 0;
	unsigned n_pages = sequential ? SLOT_PAGES : 1;
	struct line line = {0};

	end_ns = start_ns + cmdline_number("disk_bench_ms", 1000) * (NS_PER_S / 1000);
	while (time_ns() < end_ns) {
		for (unsigned i = 0; i < n_slots; i++) {
			struct slot *s = &slots[i];

			if (s->queue.busy && !is_done(s))
				continue;
			if (!sequential)
				next = content_mix(random_state++) % n_blocks;
			else if (next + n_pages > n_blocks)
				next = 0;
			submit(s, REQUEST_IN, next, n_pages);
			next += n_pages;
			blocks += n_pages;
			requests++;
		}
	}
	line_text(&line, "memd-guest: disk");
	line_value(&line, "requests", requests);
	line_value(&line, "bytes", blocks * GUEST_PAGE);
	line_value(&line, "us", (time_ns() - start_ns) / 1000);
	line_print(&line);
	user_syscall(SYS_POWER_OFF, 0, 0, 0);
}

void disk_init(void)
{
	bool sequential = cmdline_is("disk_bench", "seq");
	bool benchmark = sequential || cmdline_is("disk_bench", "random");

	if (!benchmark && !cmdline_number("disk", 0))
		return;
	device = virtio_find(VIRTIO_ID_BLOCK);
	if (!device || !virtio_start(device, F_MQ | F_FLUSH))
		line_print_and_stop("there is no disk");
	random_state = cmdline_number("seed", 0);
	n_slots =
		device->features & F_MQ
			? MIN(MMIO_READ(uint16_t, device->config + CONFIG_NUM_QUEUES), DISK_QUEUES)
			: 1;
	for (unsigned i = 0; i < n_slots; i++) {
		struct slot *s = &slots[i];

		if (!virtio_queue_init(device, &s->queue, (uint16_t)i))
			line_print_and_stop("the disk lacks a queue");
		s->pages = memory_alloc(SLOT_PAGES * GUEST_PAGE);
		s->first_block = i * SLOT_PAGES;
	}
	virtio_driver_ok(device);
	if (benchmark)
		bench(sequential);
}

uint64_t disk_read_blocks(void)
{
	return n_read;
}

uint64_t disk_written_blocks(void)
{
	return n_written;
}
