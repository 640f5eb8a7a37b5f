/* See hints.h. */
#include "tests/guest/memd-guest/hints.h"
#include "tests/guest/memd-guest/cmdline.h"
#include "tests/guest/memd-guest/cpu.h"
#include "tests/guest/memd-guest/memory.h"
#include "tests/guest/memd-guest/page-content.h"

#define CONFIG_COMMAND 8
#define COMMAND_STOP   0
#define COMMAND_DONE   1

#define BLOCKS_A_REQUEST 16
#define POLL_NS		 (NS_PER_S / 100) /* each look is an exit */
#define HOLD_VISITS	 2

/* Who may touch a block: its owner in FULL, GIVEN_BACK and REUSED, nobody else's pages ever. */
enum block_state {
	BLOCK_GIVEN_BACK, /* to be written anew */
	BLOCK_FULL, /* holds what it must hold */
	BLOCK_FREE,
	BLOCK_HINTED,
	BLOCK_REUSED, /* hinted, and being written again */
};

struct block {
	uint64_t state;
	uint32_t generation;
	uint32_t visits; /* since it is full */
};

/* One processor's. */
struct own {
	uint64_t next; /* of its blocks */
} __attribute__((aligned(64)));

static struct block *blocks;
static uint64_t n_blocks, block_pages, first_page, reuse_pct, run_ns;
static unsigned n_owners;
static struct own owners[VCPUS_MAX];

static struct virtio_device *device;
static struct virtqueue queue;
static bool has_queue;
static enum {
	RUN_NONE,
	RUN_HINTING,
	RUN_STOPPED, /* STOP is sent: waits for DONE */
} run;
static uint32_t command, active_id, id_out; /* id_out is the buffer of an identifier */
static uint64_t next_poll_ns, run_until_ns, next_block, n_hinted;
static uint64_t request[BLOCKS_A_REQUEST];

void hints_init(unsigned n_cpus)
{
	block_pages = cmdline_number("hint_block_kib", 256) * 1024 / GUEST_PAGE;
	n_blocks = cmdline_number("hint_mib", 0) * GUEST_MIB / GUEST_PAGE / block_pages;
	reuse_pct = cmdline_number("hint_reuse_pct", 50);
	run_ns = cmdline_number("hint_run_ms", 200) * (NS_PER_S / 1000);
	n_owners = n_cpus;
	if (n_blocks)
		blocks = memory_alloc(n_blocks * sizeof(*blocks));
	for (uint64_t i = 0; i < n_blocks; i++)
		blocks[i] = (struct block){.state = BLOCK_GIVEN_BACK};
}

bool hints_wanted(void)
{
	return n_blocks > 0;
}

uint64_t hints_place(uint64_t first)
{
	first_page = first;
	return first + n_blocks * block_pages;
}

bool hints_init_queue(struct virtio_device *d, uint16_t index)
{
	device = d;
	has_queue = virtio_queue_init(d, &queue, index);
	return has_queue;
}

static uint64_t state_of(uint64_t i)
{
	return __atomic_load_n(&blocks[i].state, __ATOMIC_ACQUIRE);
}

static void set_state(uint64_t i, enum block_state state)
{
	__atomic_store_n(&blocks[i].state, state, __ATOMIC_RELEASE);
}

/* The blocks were hinted: from here on they are used again, whatever the device does with them. */
static void submit_blocks(void)
{
	struct virtio_segment segments[BLOCKS_A_REQUEST];
	unsigned n = 0;

	for (uint64_t looked = 0; looked < n_blocks && n < BLOCKS_A_REQUEST; looked++) {
		uint64_t i = next_block++ % n_blocks;

		if (state_of(i) != BLOCK_FREE)
			continue;
		segments[n].address = memory_page(first_page + i * block_pages);
		segments[n].bytes = (uint32_t)(block_pages * GUEST_PAGE);
		request[n++] = i;
	}
	if (!n)
		return;
	virtio_submit(&queue, segments, n, VIRTQ_DESC_WRITE);
	for (unsigned k = 0; k < n; k++)
		set_state(request[k], BLOCK_HINTED);
	n_hinted += n * block_pages;
}

static void submit_id(uint32_t id)
{
	struct virtio_segment segment = {&id_out, sizeof(id_out)};

	id_out = id;
	virtio_submit(&queue, &segment, 1, 0);
}

/* DONE: what was hinted and not taken back yet is ours again. */
static void give_back_all(void)
{
	for (uint64_t i = 0; i < n_blocks; i++) {
		uint64_t hinted = BLOCK_HINTED;

		__atomic_compare_exchange_n(&blocks[i].state, &hinted, BLOCK_GIVEN_BACK, false,
			__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
	}
}

bool hints_service(uint64_t now_ns)
{
	if (!has_queue || (queue.busy && !virtio_done(&queue)))
		return false;
	if (now_ns >= next_poll_ns) {
		next_poll_ns = now_ns + POLL_NS;
		command = MMIO_READ(uint32_t, device->config + CONFIG_COMMAND);
	}
	if (run == RUN_NONE && command > COMMAND_DONE && command != active_id) {
		active_id = command;
		run = RUN_HINTING;
		run_until_ns = now_ns + run_ns;
		submit_id(active_id);
	} else if (run == RUN_HINTING) {
		submit_blocks();
		if (!queue.busy && (now_ns >= run_until_ns || command != active_id)) {
			run = RUN_STOPPED;
			submit_id(COMMAND_STOP);
		}
	} else if (run == RUN_STOPPED && command != active_id) {
		run = RUN_NONE;
		give_back_all();
	}
	return run == RUN_HINTING;
}

static void write_block(uint64_t i, struct area_counters *c)
{
	struct block *b = &blocks[i];

	b->generation += GENERATION_ROUND;
	b->visits = 0;
	for (uint64_t p = 0; p < block_pages; p++)
		area_write(c, AREA_HINTED, i * block_pages + p,
			memory_page(first_page + i * block_pages + p), b->generation);
	set_state(i, BLOCK_FULL);
}

static void verify_block(uint64_t i, struct area_counters *c)
{
	struct block *b = &blocks[i];

	for (uint64_t p = 0; p < block_pages; p++)
		area_verify(c, AREA_HINTED, i * block_pages + p,
			memory_page(first_page + i * block_pages + p), b->generation);
	if (++b->visits >= HOLD_VISITS)
		set_state(i, BLOCK_FREE);
}

/* By chance, but the same for all of a block's time as a hinted one. */
static bool is_reused(uint64_t i)
{
	return content_mix(i << 32 | blocks[i].generation) % 100 < reuse_pct;
}

/* DONE may come at the same moment; then the block is ours one way or the other. */
static bool take_back(uint64_t i)
{
	uint64_t hinted = BLOCK_HINTED;

	return __atomic_compare_exchange_n(&blocks[i].state, &hinted, BLOCK_REUSED, false,
		__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

bool hints_work(unsigned cpu, struct area_counters *c)
{
	struct own *own = &owners[cpu];
	uint64_t i = own->next;

	if (cpu >= n_blocks)
		return false;
	if (i < cpu || i >= n_blocks)
		i = cpu;
	own->next = i + n_owners;
	switch (state_of(i)) {
	case BLOCK_GIVEN_BACK:
		write_block(i, c);
		return true;
	case BLOCK_FULL:
		verify_block(i, c);
		return true;
	case BLOCK_HINTED:
		if (is_reused(i) && take_back(i))
			write_block(i, c);
		return reuse_pct > 0;
	default:
		return false;
	}
}

uint64_t hints_hinted_pages(void)
{
	return n_hinted;
}

uint64_t hints_free_blocks(void)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < n_blocks; i++)
		n += state_of(i) == BLOCK_FREE;
	return n;
}
