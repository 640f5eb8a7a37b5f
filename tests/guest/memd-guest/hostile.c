/*
 * See hostile.h. A round resets one device, brings it up in a more or less orderly way, and then
 * does a number of acts to it, most of them wrong. Addresses that devices get to see begin in the
 * arena (the RAM from page 0 of memory.h up), behind RAM, or in nowhere: never in the guest's own
 * image.
 */
#include "tests/guest/memd-guest/hostile.h"
#include "tests/guest/memd-guest/cmdline.h"
#include "tests/guest/memd-guest/cpu.h"
#include "tests/guest/memd-guest/line.h"
#include "tests/guest/memd-guest/memory.h"
#include "tests/guest/memd-guest/page-content.h"
#include "tests/guest/memd-guest/pci.h"
#include "tests/guest/memd-guest/virtio.h"

#define ACTS_A_ROUND	48
#define QUEUES_MAX	8 /* whose rings the arena has room for */
#define RING_PAGES	3 /* of one queue: descriptors, driver's ring, device's ring */
#define PAYLOAD_PAGES	8 /* behind the rings */
#define CHAIN		4 /* descriptors of an orderly request */
#define RESET_READS_MAX 1000 /* another processor may bring it up again meanwhile */

static uint64_t random_state; /* of all processors: they disturb each other here too */
static uint64_t rounds_done, cpus_done;
static uint64_t arena_start, arena_end; /* of the last piece of RAM */

static uint64_t any(void)
{
	return content_mix(random_state += UINT64_C(0x9e3779b97f4a7c15));
}

/* 0 .. n - 1 */
static uint64_t below(uint64_t n)
{
	return any() % n;
}

static bool one_in(unsigned n)
{
	return !below(n);
}

static uint64_t ring_page(unsigned queue, unsigned part)
{
	return (uintptr_t)memory_page(queue * RING_PAGES + part);
}

static uint64_t payload_page(void)
{
	return (uintptr_t)memory_page(QUEUES_MAX * RING_PAGES + below(PAYLOAD_PAGES));
}

/* An address for a device: good ones half of the time, else at and over all kinds of edges. */
static uint64_t bad_address(const struct virtio_device *d)
{
	switch (below(12)) {
	case 0:
		return arena_end - below(64);
	case 1:
		return arena_end - GUEST_PAGE;
	case 2:
		return arena_end + below(GUEST_CHUNK);
	case 3:
		return UINT64_MAX - below(2 * GUEST_PAGE);
	case 4:
		return any() | UINT64_C(1) << 40;
	case 5:
		return d->common + below(64); /* a device's own registers */
	case 6:
		return payload_page() + below(GUEST_PAGE); /* unaligned */
	default:
		return payload_page();
	}
}

static uint32_t bad_bytes(void)
{
	static const uint32_t edges[] = {
		0, 1, 3, 4, 5, 4095, 4096, 4097, 0x7fffffff, 0x80000000, 0xfffff000, 0xffffffff};

	return one_in(2) ? edges[below(N_ELEMENTS(edges))] : (uint32_t)below(16384);
}

/* PFNs, ranges, statistics, console messages: what a device reads, made of edges too. */
static void fill_payload(uint64_t page)
{
	uint32_t *words = (uint32_t *)page;
	uint64_t first_pfn = arena_start / GUEST_PAGE,
		 n_pfns = (arena_end - arena_start) / GUEST_PAGE;

	for (unsigned i = 0; i < GUEST_PAGE / sizeof(*words); i++) {
		switch (below(6)) {
		case 0:
			words[i] = (uint32_t)(arena_end / GUEST_PAGE + below(3));
			break;
		case 1:
			words[i] = (uint32_t)any() | 0x80000000;
			break;
		case 2:
			words[i] = i ? words[i - 1] : UINT32_MAX; /* given twice */
			break;
		default:
			words[i] = (uint32_t)(first_pfn + below(n_pfns));
		}
	}
}

static void write_descriptor(
	struct virtq_desc *desc, uint64_t address, uint32_t bytes, uint16_t flags, unsigned next)
{
	desc->address = address;
	desc->bytes = bytes;
	desc->flags = flags;
	desc->next = (uint16_t)next;
}

/*
 * Well-formed chains of up to CHAIN descriptors, what is read before what is written, so that the
 * payload reaches whoever handles it; one descriptor in many is not as it should be.
 */
static void fill_chains(const struct virtio_device *d, struct virtq_desc *desc, unsigned size)
{
	for (unsigned i = 0; i < size; i++) {
		uint16_t flags = i % CHAIN + 1 < CHAIN && i + 1 < size ? VIRTQ_DESC_NEXT : 0;
		unsigned split = (unsigned)(random_state >> i / CHAIN) % (CHAIN + 1);

		if (i % CHAIN >= split)
			flags |= VIRTQ_DESC_WRITE;
		write_descriptor(&desc[i], one_in(64) ? bad_address(d) : payload_page(),
			one_in(64) ? bad_bytes() : (uint32_t)below(GUEST_PAGE + 1), flags, i + 1);
	}
}

static void fill_garbage(const struct virtio_device *d, struct virtq_desc *desc, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		/* the next one, itself, any other, behind the table */
		write_descriptor(&desc[i], bad_address(d), bad_bytes(),
			one_in(8) ? (uint16_t)any() : (uint16_t)below(8),
			one_in(2) ? i + 1 : (unsigned)below(size + 2));
}

static void publish(unsigned queue, unsigned size, bool orderly)
{
	struct virtq_avail *avail = (struct virtq_avail *)ring_page(queue, 1);
	uint16_t step = (uint16_t)(1 + below(4));

	/* an index that moves on by a lot, by too much, or back; heads behind the table */
	if (!orderly)
		step = one_in(4) ? (uint16_t)any() : (uint16_t)below(size + 2);
	avail->flags = (uint16_t)any();
	for (unsigned i = 0; i < MIN(size, VIRTIO_QUEUE_MAX); i++) {
		if (orderly)
			avail->ring[i] = (uint16_t)ALIGN_DOWN(below(size), CHAIN);
		else
			avail->ring[i] = one_in(4) ? (uint16_t)any() : (uint16_t)below(size);
	}
	compiler_barrier();
	MMIO_WRITE(uint16_t, &avail->index, avail->index + step);
}

/* One store of 1, 2, 4 or 8 bytes, or a load of that size. */
static void poke(uint64_t address)
{
	uint64_t value = one_in(2) ? any() : one_in(2) ? UINT64_MAX : below(4);

	switch (below(8)) {
	case 0:
		MMIO_WRITE(uint8_t, address, (uint8_t)value);
		break;
	case 1:
		MMIO_WRITE(uint16_t, address, (uint16_t)value);
		break;
	case 2:
		MMIO_WRITE(uint32_t, address, (uint32_t)value);
		break;
	case 3:
		MMIO_WRITE(uint64_t, address, value);
		break;
	case 4:
		(void)MMIO_READ(uint8_t, address);
		break;
	case 5:
		(void)MMIO_READ(uint16_t, address);
		break;
	case 6:
		(void)MMIO_READ(uint32_t, address);
		break;
	default:
		(void)MMIO_READ(uint64_t, address);
	}
}

static void ring_doorbell(const struct virtio_device *d, unsigned queue)
{
	uint64_t at;

	virtio_write(d, VIRTIO_QUEUE_SELECT, queue, 2);
	at = d->notify +
	     (uint64_t)virtio_read(d, VIRTIO_QUEUE_NOTIFY_OFF, 2) * d->notify_multiplier;
	if (one_in(4))
		poke(d->notify + below(d->notify_bytes));
	else
		MMIO_WRITE(uint16_t, at, (uint16_t)queue);
}

/* Requests, two of three times in an orderly way. */
static void make_requests(const struct virtio_device *d, unsigned queue, unsigned size)
{
	struct virtq_desc *desc = (struct virtq_desc *)ring_page(queue, 0);
	unsigned n = MIN(size, GUEST_PAGE / sizeof(*desc));
	bool orderly = !one_in(3);

	if (orderly)
		fill_chains(d, desc, n);
	else
		fill_garbage(d, desc, n);
	publish(queue, size, orderly);
	ring_doorbell(d, queue);
}

static void write_ring_address(const struct virtio_device *d, enum virtio_register reg, uint64_t a)
{
	virtio_write(d, reg, (uint32_t)a, 4);
	virtio_write(d, reg + 4, (uint32_t)(a >> 32), 4);
}

/* Mostly as a driver should, so that what follows reaches the code behind the checks. */
static unsigned set_up_queue(const struct virtio_device *d, unsigned queue)
{
	unsigned size = MIN(virtio_read(d, VIRTIO_QUEUE_SIZE, 2), VIRTIO_QUEUE_MAX);
	static const enum virtio_register parts[RING_PAGES] = {
		VIRTIO_QUEUE_DESC, VIRTIO_QUEUE_DRIVER, VIRTIO_QUEUE_DEVICE};

	if (one_in(8))
		size = (unsigned)below(UINT16_MAX + 1);
	virtio_write(d, VIRTIO_QUEUE_SIZE, size, 2);
	for (unsigned part = 0; part < RING_PAGES; part++)
		write_ring_address(
			d, parts[part], one_in(16) ? bad_address(d) : ring_page(queue, part));
	virtio_write(d, VIRTIO_QUEUE_ENABLE, one_in(16) ? (uint16_t)any() : 1, 2);
	return size ? size : 1;
}

static void reset(const struct virtio_device *d)
{
	virtio_write(d, VIRTIO_STATUS, 0, 1);
	for (unsigned i = 0; virtio_read(d, VIRTIO_STATUS, 1) && i < RESET_READS_MAX; i++)
		cpu_relax();
}

static void bring_up(const struct virtio_device *d, unsigned sizes[QUEUES_MAX])
{
	unsigned n_queues = MIN(virtio_read(d, VIRTIO_NUM_QUEUES, 2), QUEUES_MAX);
	uint64_t features = virtio_offered_features(d);
	uint8_t status = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER;

	if (one_in(4))
		features &= any() | VIRTIO_F_VERSION_1;
	if (one_in(16))
		features ^= UINT64_C(1) << below(64);
	virtio_write(d, VIRTIO_STATUS, status, 1);
	virtio_write(d, VIRTIO_DRIVER_FEATURE_SELECT, 0, 4);
	virtio_write(d, VIRTIO_DRIVER_FEATURE, (uint32_t)features, 4);
	virtio_write(d, VIRTIO_DRIVER_FEATURE_SELECT, 1, 4);
	virtio_write(d, VIRTIO_DRIVER_FEATURE, (uint32_t)(features >> 32), 4);
	if (!one_in(16))
		status |= VIRTIO_STATUS_FEATURES_OK;
	virtio_write(d, VIRTIO_STATUS, status, 1);
	for (unsigned queue = 0; queue < QUEUES_MAX; queue++) {
		sizes[queue] = 1;
		if (queue >= n_queues && !one_in(8))
			continue;
		for (unsigned part = 1; part < RING_PAGES; part++)
			*(volatile uint32_t *)ring_page(queue, part) = 0; /* flags and index */
		virtio_write(d, VIRTIO_QUEUE_SELECT, queue, 2);
		sizes[queue] = set_up_queue(d, queue);
	}
	if (!one_in(16))
		virtio_write(d, VIRTIO_STATUS, status | VIRTIO_STATUS_DRIVER_OK, 1);
}

/*
 * Configuration space, with decoding and the BARs put back: else nothing that follows would arrive.
 */
static void harass_pci(const struct virtio_device *d)
{
	uint32_t command = 0x0406; /* memory, bus master, no INTx: as pci_enable left it */

	for (unsigned i = 0; i < 8; i++) {
		unsigned size = 1u << below(3);
		uint32_t at = (uint32_t)below(256) & ~(size - 1);

		user_syscall(SYS_PCI_WRITE, d->function + at, (uint32_t)any(), size);
	}
	for (unsigned i = 0; i < PCI_N_BARS; i++) {
		if (!d->bars[i])
			continue;
		user_syscall(
			SYS_PCI_WRITE, d->function + PCI_BAR0 + 4 * i, (uint32_t)d->bars[i], 4);
		if (d->bars[i] >> 32)
			user_syscall(SYS_PCI_WRITE, d->function + PCI_BAR0 + 4 * i + 4,
				(uint32_t)(d->bars[i] >> 32), 4);
	}
	user_syscall(SYS_PCI_WRITE, d->function + PCI_COMMAND, command, 2);
}

static void act(const struct virtio_device *d, const unsigned sizes[QUEUES_MAX])
{
	unsigned queue = (unsigned)below(QUEUES_MAX);

	switch (below(16)) {
	case 0:
		poke(d->common + below(d->common_bytes));
		break;
	case 1:
		/* any offset, so also accesses that straddle the end */
		poke(d->config + below(d->config_bytes + 8));
		break;
	case 2:
		virtio_write(d, VIRTIO_QUEUE_SELECT, (uint16_t)any(), 2);
		virtio_write(d, VIRTIO_QUEUE_ENABLE, (uint16_t)any(), 2);
		break;
	case 3:
		for (unsigned i = 0; i < 16; i++)
			ring_doorbell(d, queue);
		break;
	case 4:
		virtio_write(d, VIRTIO_STATUS, (uint8_t)any(), 1);
		break;
	case 5:
		if (one_in(4))
			harass_pci(d);
		break;
	case 6:
		fill_payload(payload_page());
		break;
	default:
		make_requests(d, queue, sizes[queue]);
	}
}

static bool is_target(const struct virtio_device *d)
{
	if (cmdline_is("target", "balloon"))
		return d->type == VIRTIO_ID_BALLOON;
	if (cmdline_is("target", "console"))
		return d->type == VIRTIO_ID_CONSOLE;
	if (cmdline_is("target", "net"))
		return d->type == VIRTIO_ID_NET;
	if (cmdline_is("target", "vsock"))
		return d->type == VIRTIO_ID_VSOCK;
	if (cmdline_is("target", "disk"))
		return d->type == VIRTIO_ID_BLOCK;
	if (cmdline_is("target", "rng"))
		return d->type == VIRTIO_ID_RNG;
	return true;
}

static bool run_round(uint64_t round)
{
	const struct virtio_device *d = virtio_device((unsigned)(round % virtio_n_devices()));
	unsigned sizes[QUEUES_MAX];

	if (!is_target(d))
		return false;
	reset(d);
	bring_up(d, sizes);
	for (unsigned i = 0; i < ACTS_A_ROUND; i++) {
		/* a device that gave up is not worth much more */
		if ((virtio_read(d, VIRTIO_STATUS, 1) & VIRTIO_STATUS_NEEDS_RESET) && one_in(4))
			break;
		act(d, sizes);
	}
	return true;
}

void hostile_init(void)
{
	random_state = cmdline_number("seed", 0);
	arena_start = (uintptr_t)memory_page(0);
	arena_end = (uintptr_t)memory_page(memory_n_pages() - 1) + GUEST_PAGE;
	for (unsigned i = 0; i < PAYLOAD_PAGES; i++)
		fill_payload((uintptr_t)memory_page(QUEUES_MAX * RING_PAGES + i));
}

void hostile_run(void)
{
	uint64_t rounds = cmdline_number("rounds", 500), done = 0;

	for (uint64_t round = 0; virtio_n_devices() && round < rounds; round++)
		done += run_round(round);
	__atomic_fetch_add(&rounds_done, done, __ATOMIC_RELAXED);
	__atomic_fetch_add(&cpus_done, 1, __ATOMIC_RELEASE);
}

void hostile_finish(unsigned n_cpus)
{
	struct line line = {0};

	while (__atomic_load_n(&cpus_done, __ATOMIC_ACQUIRE) < n_cpus)
		user_syscall(SYS_IDLE, 0, 0, 0);
	for (unsigned i = 0; i < virtio_n_devices(); i++)
		reset(virtio_device(i));
	line_text(&line, "memd-guest: hostile");
	line_value(&line, "rounds", rounds_done);
	line_value(&line, "seed", cmdline_number("seed", 0));
	line_print(&line);
	if (!cmdline_is("then", "work"))
		user_syscall(SYS_POWER_OFF, 0, 0, 0);
}
