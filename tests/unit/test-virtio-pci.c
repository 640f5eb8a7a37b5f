/*
 * The PCI transport of virtio: capabilities, negotiation, status, queues, notification, interrupts,
 * needs-reset.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "fake-driver.h"
#include "kvm-glue/virtio-pci.h"
#include "memd/base/clock.h"

enum {
	SLOT = 2,
	CONFIG_BYTES = 12,
	QUEUES = 3,
	FEATURE_A = 1 << 5,
};

/* A device that gives chains back at once, having written as many bytes as it was given. */
struct echo {
	struct virtio_device device;
	struct virtq_chain chain;
	uint8_t config[CONFIG_BYTES];
	_Atomic unsigned starts, stops, woken, served;
	_Atomic bool slow;
};

static struct fake_machine *f;
static struct pci_bus *bus;
static struct echo echo;
static struct virtio_pci *transport;
static struct fake_driver driver;

static void echo_config_read(struct virtio_device *d, uint32_t offset, uint8_t *data, unsigned size)
{
	memcpy(data, echo.config + offset, size);
}

static void echo_config_write(
	struct virtio_device *d, uint32_t offset, const uint8_t *data, unsigned size)
{
	memcpy(echo.config + offset, data, size);
}

static void echo_started(struct virtio_device *d)
{
	echo.starts++;
}

static void echo_stopped(struct virtio_device *d)
{
	echo.chain.popped = false;
	echo.stops++;
}

static int echo_serve(struct virtio_device *d, unsigned queue)
{
	int r = virtq_pop(&d->queues[queue], &echo.chain);

	if (r != 0)
		return r < 0 ? r : virtq_rearm(&d->queues[queue]);
	if (echo.slow)
		clock_sleep_us(20000);
	virtq_push(&d->queues[queue], &echo.chain, (uint32_t)echo.chain.writable_bytes);
	echo.served++;
	virtio_device_pushed(d, queue);
	return VIRTIO_SERVE_AGAIN;
}

static int echo_woken(struct virtio_device *d)
{
	echo.woken++;
	return 0;
}

static int echo_save(struct virtio_device *d, struct snapshot_writer *w)
{
	return 0;
}

static const struct virtio_class echo_class = {
	.name = "test-echo",
	.id = 42,
	.pci_class_code = 0x010203,
	.n_queues = QUEUES,
	.queue_size = 16,
	.features = FEATURE_A,
	.config_bytes = CONFIG_BYTES,
	.config_read = echo_config_read,
	.config_write = echo_config_write,
	.started = echo_started,
	.stopped = echo_stopped,
	.serve = echo_serve,
	.woken = echo_woken,
	.save = echo_save,
};

static int setup(void **state)
{
	f = fake_machine_new();
	memset(&echo, 0, sizeof(echo));
	log_set_max_level(LOG_LEVEL_ERROR);
	if (pci_bus_new(&f->machine, &bus) < 0 ||
		virtio_device_init(&echo.device, &echo_class, &f->machine) < 0 ||
		virtio_pci_new(&f->machine, bus, SLOT, &echo.device, &transport) < 0 ||
		virtio_device_run(&echo.device) < 0)
		return -1;
	fake_driver_init(&driver, f, SLOT);
	return 0;
}

static int setup_without_doorbells(void **state)
{
	int r = setup(state);

	fake_config_write(f, SLOT, 0x04, 2, 0);
	f->no_doorbells = true;
	fake_config_write(f, SLOT, 0x04, 2, 2);
	return r;
}

static int teardown(void **state)
{
	virtio_device_halt(&echo.device);
	virtio_pci_free(transport);
	virtio_device_done(&echo.device);
	pci_bus_free(bus);
	fake_machine_free(f);
	return 0;
}

static uint64_t get(unsigned offset, unsigned size)
{
	return fake_mmio_read(f, driver.common + offset, size);
}

static void put(unsigned offset, unsigned size, uint64_t value)
{
	fake_mmio_write(f, driver.common + offset, size, value);
}

static void shows_all_its_structures(void **state)
{
	assert_int_equal(fake_config_read(f, SLOT, 0, 4), (0x1040 + 42) << 16 | 0x1af4);
	assert_int_equal(fake_config_read(f, SLOT, 0x08, 1), 1);
	assert_int_equal(driver.common, driver.bar + VIRTIO_PCI_COMMON_OFFSET);
	assert_int_equal(driver.isr, driver.bar + VIRTIO_PCI_ISR_OFFSET);
	assert_int_equal(driver.device, driver.bar + VIRTIO_PCI_DEVICE_OFFSET);
	assert_int_equal(driver.notify, driver.bar + VIRTIO_PCI_NOTIFY_OFFSET);
	assert_int_equal(driver.notify_multiplier, VIRTIO_PCI_NOTIFY_STRIDE);
	assert_int_equal(get(0x12, 2), QUEUES);
}

static void a_reset_device_is_blank(void **state)
{
	fake_driver_start(&driver, UINT64_MAX, QUEUES);
	fake_driver_reset(&driver);
	assert_int_equal(get(0x14, 1), 0);
	assert_int_equal(get(0x10, 2), VIRTIO_PCI_NO_VECTOR);
	put(0x08, 4, 1);
	assert_int_equal(get(0x0c, 4), 0);
	for (unsigned q = 0; q < QUEUES; q++) {
		put(0x16, 2, q);
		assert_int_equal(get(0x18, 2), 16);
		assert_int_equal(get(0x1a, 2), VIRTIO_PCI_NO_VECTOR);
		assert_int_equal(get(0x1c, 2), 0);
		assert_int_equal(get(0x1e, 2), q);
		assert_int_equal(get(0x20, 8), 0);
	}
	put(0x16, 2, QUEUES);
	assert_int_equal(get(0x18, 2), 0); /* no such queue */
	put(0x18, 2, 8);
	put(0x1c, 2, 1);
	assert_int_equal(get(0x1c, 2), 0);
}

static void offers_features_by_halves(void **state)
{
	put(0, 4, 0);
	assert_int_equal(get(4, 4), FEATURE_A | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX);
	put(0, 4, 1);
	assert_int_equal(get(4, 4), 1);
	put(0, 4, 2);
	assert_int_equal(get(4, 4), 0);
	put(0, 4, UINT32_MAX);
	assert_int_equal(get(4, 4), 0);
}

static void accepts_only_what_it_offered(void **state)
{
	assert_int_equal(fake_driver_negotiate(&driver, UINT64_MAX), 11);
	assert_int_equal(fake_driver_negotiate(&driver, VIRTIO_F_VERSION_1), 11);
	assert_int_equal(fake_driver_negotiate(&driver, FEATURE_A), 3); /* no VERSION_1 */
	fake_driver_reset(&driver);
	put(0x14, 1, 3);
	put(0x08, 4, 1);
	put(0x0c, 4, 1);
	put(0x08, 4, 0);
	put(0x0c, 4, 1 << 6); /* not offered */
	put(0x14, 1, 11);
	assert_int_equal(get(0x14, 1), 3);
}

static void features_are_fixed_once_accepted(void **state)
{
	fake_driver_negotiate(&driver, VIRTIO_F_VERSION_1 | FEATURE_A);
	put(0x08, 4, 0);
	put(0x0c, 4, 0);
	assert_int_equal(get(0x0c, 4), FEATURE_A);
	fake_driver_ok(&driver);
	assert_int_equal(echo.device.features, VIRTIO_F_VERSION_1 | FEATURE_A);
}

static void status_bits_only_add_up(void **state)
{
	fake_driver_start(&driver, UINT64_MAX, 1);
	assert_int_equal(get(0x14, 1), 15);
	put(0x14, 1, 1);
	put(0x14, 1, VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(get(0x14, 1), 15);
	assert_int_equal(echo.starts, 1);
	put(0x14, 1, 15);
	assert_int_equal(echo.starts, 1);
}

static void does_not_start_without_features_ok(void **state)
{
	fake_driver_reset(&driver);
	put(0x14, 1, 7);
	assert_int_equal(get(0x14, 1), 3);
	assert_int_equal(echo.starts, 0);
}

static void an_enabled_queue_is_fixed(void **state)
{
	fake_driver_negotiate(&driver, UINT64_MAX);
	fake_driver_queue(&driver, 1, 8);
	put(0x18, 2, 4);
	put(0x20, 8, 0x123000);
	put(0x1c, 2, 0);
	assert_int_equal(get(0x18, 2), 8);
	assert_int_equal(get(0x20, 8), driver.queues[1].desc_gpa);
	assert_int_equal(get(0x1c, 2), 1);
}

static void a_vector_that_does_not_exist_reads_as_none(void **state)
{
	put(0x10, 2, QUEUES);
	assert_int_equal(get(0x10, 2), QUEUES);
	put(0x10, 2, QUEUES + 1);
	assert_int_equal(get(0x10, 2), VIRTIO_PCI_NO_VECTOR);
	put(0x16, 2, 0);
	put(0x1a, 2, QUEUES + 1);
	assert_int_equal(get(0x1a, 2), VIRTIO_PCI_NO_VECTOR);
}

static void serves_a_queue_and_interrupts(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 77, true};

	fake_driver_start(&driver, VIRTIO_F_VERSION_1, QUEUES);
	assert_int_equal(f->n_doorbells, QUEUES);
	for (unsigned q = 0; q < QUEUES; q++) {
		assert_int_equal(fake_request(&driver, q, &buffer, 1), 77);
		fake_driver_reset(&driver); /* waits until the interrupt is out */
		assert_int_equal(fake_vector_take(&driver, q + 1), 1);
		fake_driver_start(&driver, VIRTIO_F_VERSION_1, QUEUES);
	}
}

static void serves_a_queue_without_doorbells(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 5, true};

	assert_int_equal(f->n_doorbells, 0);
	fake_driver_start(&driver, VIRTIO_F_VERSION_1, QUEUES);
	assert_int_equal(fake_request(&driver, 2, &buffer, 1), 5);
}

static void doorbells_follow_the_bar(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 5, true};
	uint64_t by = 0x10000;

	fake_config_write(f, SLOT, 0x10, 4, (uint32_t)(driver.bar + by));
	assert_int_equal(f->n_doorbells, QUEUES);
	assert_true(f->doorbells[0].gpa >= driver.bar + by);
	driver.common += by;
	driver.notify += by;
	fake_driver_start(&driver, VIRTIO_F_VERSION_1, QUEUES);
	assert_int_equal(fake_request(&driver, 0, &buffer, 1), 5);
}

static void looks_at_queues_that_were_notified_too_early(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 9, true};
	uint32_t bytes = 0;

	fake_driver_negotiate(&driver, VIRTIO_F_VERSION_1);
	fake_driver_queue(&driver, 0, 0);
	fake_add(&driver, 0, &buffer, 1);
	fake_kick(&driver, 0);
	clock_sleep_us(2000);
	assert_false(fake_has_used(&driver, 0));
	fake_driver_ok(&driver);
	assert_true(fake_wait_used(&driver, 0, NULL, &bytes));
	assert_int_equal(bytes, 9);
}

static void a_bad_chain_needs_a_reset(void **state)
{
	struct fake_buffer good = {FAKE_BUFFERS_GPA, 1, true};
	struct fake_buffer bad = {FAKE_LOW_BYTES, 1, true};

	fake_driver_start(&driver, VIRTIO_F_VERSION_1, QUEUES);
	fake_add(&driver, 1, &bad, 1);
	fake_kick(&driver, 1);
	assert_true(fake_wait_status(&driver, VIRTIO_STATUS_NEEDS_RESET));
	assert_int_equal(echo.device.needs_reset_count, 1);
	assert_int_equal(fake_vector_take(&driver, 0), 1); /* configuration change */
	/* dead until then, also for other queues */
	fake_add(&driver, 0, &good, 1);
	fake_kick(&driver, 0);
	clock_sleep_us(2000);
	assert_false(fake_has_used(&driver, 0));
	assert_int_equal(echo.device.needs_reset_count, 1);
	/* and alive after it */
	fake_driver_start(&driver, VIRTIO_F_VERSION_1, QUEUES);
	assert_int_equal(fake_driver_status(&driver), 15);
	assert_int_equal(fake_request(&driver, 0, &good, 1), 1);
}

static void a_bad_queue_needs_a_reset(void **state)
{
	fake_driver_negotiate(&driver, VIRTIO_F_VERSION_1);
	put(0x16, 2, 0);
	put(0x20, 8, FAKE_LOW_BYTES - 16);
	put(0x28, 8, 0x2000);
	put(0x30, 8, 0x4000);
	put(0x1c, 2, 1);
	fake_driver_ok(&driver);
	assert_int_equal(get(0x14, 1), 15 | VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(echo.starts, 0);
	/* larger than offered, though it would fit */
	fake_driver_negotiate(&driver, VIRTIO_F_VERSION_1);
	fake_driver_queue(&driver, 0, 32);
	fake_driver_ok(&driver);
	assert_int_equal(get(0x14, 1), 15 | VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(echo.device.needs_reset_count, 2);
}

static void a_reset_waits_for_the_chain_at_work(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 1, true};
	unsigned before;

	echo.slow = true;
	fake_driver_start(&driver, VIRTIO_F_VERSION_1, QUEUES);
	for (unsigned i = 0; i < 15; i++)
		fake_add(&driver, 0, &buffer, 1);
	fake_kick(&driver, 0);
	while (!fake_has_used(&driver, 0))
		clock_sleep_us(50);
	before = echo.served;
	fake_driver_reset(&driver);
	memset(fake_ram(f, driver.queues[0].used_gpa, 64), 0xee, 64);
	clock_sleep_us(30000);
	for (unsigned i = 0; i < 64; i++) /* nobody writes the ring any more */
		assert_int_equal(((uint8_t *)fake_ram(f, driver.queues[0].used_gpa, 64))[i], 0xee);
	/* and was not put off by the chains behind it, but for one that may end as we come */
	assert_in_range(echo.served - before, 0, 3);
}

static void device_configuration_is_bounded(void **state)
{
	fake_mmio_write(f, driver.device, 4, 0x11223344);
	fake_mmio_write(f, driver.device + 8, 4, 0x55667788);
	assert_int_equal(fake_mmio_read(f, driver.device + 2, 2), 0x1122);
	assert_int_equal(fake_mmio_read(f, driver.device + CONFIG_BYTES - 4, 4), 0x55667788);
	assert_int_equal(fake_mmio_read(f, driver.device + CONFIG_BYTES - 4, 8), 0);
	assert_int_equal(fake_mmio_read(f, driver.device + CONFIG_BYTES, 4), 0);
	fake_mmio_write(f, driver.device + CONFIG_BYTES - 1, 4, UINT32_MAX);
	assert_int_equal(fake_mmio_read(f, driver.device + CONFIG_BYTES - 4, 4), 0x55667788);
}

static void odd_accesses_change_what_they_cover(void **state)
{
	put(0x16, 2, 1);
	put(0x20, 1, 0xaa); /* one byte of an address */
	put(0x27, 1, 0xbb);
	put(0x25, 2, 0xccdd);
	assert_int_equal(get(0x20, 8), 0xbbccdd00000000aa);
	assert_int_equal(get(0x34, 8), 0); /* runs past the end */
	put(0x36, 4, UINT32_MAX);
	assert_int_equal(get(0x30, 8), 0);
	put(0x14, 4, 0x00010003); /* status and queue select in one */
	assert_int_equal(get(0x14, 1), 3);
	assert_int_equal(get(0x16, 2), 1);
}

static void tells_of_changed_configuration(void **state)
{
	unsigned before = (unsigned)get(0x15, 1);

	echo.device.transport_ops->interrupt_config(&echo.device);
	assert_int_equal(fake_vector_take(&driver, 0), 0); /* nobody there yet */
	fake_driver_start(&driver, VIRTIO_F_VERSION_1, 1);
	echo.device.transport_ops->interrupt_config(&echo.device);
	assert_int_equal(fake_vector_take(&driver, 0), 1);
	assert_int_equal(get(0x15, 1), (before + 2) & 0xff);
}

static void the_isr_serves_drivers_without_msix(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 1, true};
	unsigned gsi = PCI_GSI(SLOT);
	unsigned msix = fake_config_read(f, SLOT, 0x34, 1);

	while (fake_config_read(f, SLOT, msix, 1) != 0x11)
		msix = fake_config_read(f, SLOT, msix + 1, 1);
	fake_config_write(f, SLOT, msix + 2, 2, 0);
	fake_driver_start(&driver, VIRTIO_F_VERSION_1, QUEUES);
	fake_request(&driver, 0, &buffer, 1);
	while (fake_line(f, gsi) == 0)
		clock_sleep_us(50);
	echo.device.transport_ops->interrupt_config(&echo.device);
	assert_int_equal(fake_mmio_read(f, driver.isr, 1), 3);
	assert_int_equal(fake_line(f, gsi), 0);
	assert_int_equal(fake_mmio_read(f, driver.isr, 1), 0);
	echo.device.transport_ops->interrupt_config(&echo.device);
	assert_int_equal(fake_line(f, gsi), 1);
	fake_driver_reset(&driver);
	assert_int_equal(fake_line(f, gsi), 0);
}

/* Offset of the capability of that cfg_type. */
static unsigned find_capability(unsigned type)
{
	unsigned at = fake_config_read(f, SLOT, 0x34, 1);

	while (fake_config_read(f, SLOT, at, 1) != 0x09 ||
		fake_config_read(f, SLOT, at + 3, 1) != type)
		at = fake_config_read(f, SLOT, at + 1, 1);
	return at;
}

static void the_configuration_window_reaches_the_bar(void **state)
{
	unsigned at = find_capability(5);

	fake_config_write(f, SLOT, at + 8, 4, (uint32_t)VIRTIO_PCI_COMMON_OFFSET + 0x12);
	fake_config_write(f, SLOT, at + 12, 4, 2);
	assert_int_equal(fake_config_read(f, SLOT, at + 16, 4), QUEUES);
	fake_config_write(f, SLOT, at + 8, 4, (uint32_t)VIRTIO_PCI_DEVICE_OFFSET);
	fake_config_write(f, SLOT, at + 12, 4, 4);
	fake_config_write(f, SLOT, at + 16, 4, 0xcafe1234);
	assert_int_equal(fake_mmio_read(f, driver.device, 4), 0xcafe1234);
	assert_int_equal(fake_config_read(f, SLOT, at + 16, 4), 0xcafe1234);
}

static void the_configuration_window_refuses_nonsense(void **state)
{
	static const struct {
		uint32_t bar, offset, length;
	} bad[] = {
		{1, VIRTIO_PCI_DEVICE_OFFSET, 4},
		{0, VIRTIO_PCI_DEVICE_OFFSET, 0},
		{0, VIRTIO_PCI_DEVICE_OFFSET, 3},
		{0, VIRTIO_PCI_DEVICE_OFFSET, 8},
		{0, VIRTIO_PCI_DEVICE_OFFSET, UINT32_MAX},
		{0, VIRTIO_PCI_DEVICE_OFFSET + 1, 4},
		{0, PCI_BAR_BYTES, 4},
		{0, UINT32_MAX & ~3U, 4},
	};
	unsigned at = find_capability(5);

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		fake_config_write(f, SLOT, at + 4, 1, bad[i].bar);
		fake_config_write(f, SLOT, at + 8, 4, bad[i].offset);
		fake_config_write(f, SLOT, at + 12, 4, bad[i].length);
		fake_config_write(f, SLOT, at + 16, 4, UINT32_MAX);
		fake_config_read(f, SLOT, at + 16, 4);
	}
	for (unsigned i = 0; i < CONFIG_BYTES; i++)
		assert_int_equal(echo.config[i], 0);
}

static void event_index_keeps_interrupts_back(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 1, true};
	uint16_t *avail;

	fake_driver_start(&driver, UINT64_MAX, 1);
	avail = fake_ram(f, driver.queues[0].avail_gpa, 64);
	avail[2 + 16] = 2; /* after the third */
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(fake_vector_take(&driver, 1), 0);
		fake_request(&driver, 0, &buffer, 1);
	}
	fake_driver_reset(&driver);
	assert_int_equal(fake_vector_take(&driver, 1), 1);
}

static void *churn(void *arg)
{
	for (unsigned i = 0; i < 200; i++) {
		fake_driver_reset(&driver);
		put(0x14, 1, 15);
		put(0x14, 1, i & 0xff);
	}
	return NULL;
}

/*
 * For the thread sanitizer, and for deadlocks: resets, notifications, configuration changes and
 * moves of the BAR at once.
 */
static void survives_resets_while_it_works(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 1, true};
	pthread_t threads[2];

	fake_driver_start(&driver, VIRTIO_F_VERSION_1, QUEUES);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, churn, NULL), 0);
	for (unsigned i = 0; i < 200; i++) {
		fake_add(&driver, 0, &buffer, 1);
		fake_kick(&driver, 0);
		echo.device.transport_ops->interrupt_config(&echo.device);
		virtio_device_wake(&echo.device);
		fake_config_write(f, SLOT, 0x04, 2, i % 2 ? 2 : 6);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	fake_driver_start(&driver, VIRTIO_F_VERSION_1, QUEUES);
	assert_int_equal(fake_request(&driver, 0, &buffer, 1), 1);
}

#define MOVED_BY 0x10000

static _Atomic bool quit;

/* Status by way of MMIO, wherever the BAR is. */
static void *reset_where_it_may_be(void *arg)
{
	while (!quit)
		for (unsigned i = 0; i < 2; i++)
			fake_mmio_write(f, driver.common + i * MOVED_BY + 0x14, 1, i);
	return NULL;
}

/* The BAR there and back, and status by way of the window, which is in configuration space. */
static void *move_the_bar(void *arg)
{
	unsigned at = find_capability(5);

	fake_config_write(f, SLOT, at + 8, 4, (uint32_t)VIRTIO_PCI_COMMON_OFFSET + 0x14);
	fake_config_write(f, SLOT, at + 12, 4, 1);
	for (unsigned i = 0; !quit; i++) {
		fake_config_write(f, SLOT, 0x10, 4, (uint32_t)(driver.bar + i % 2 * MOVED_BY));
		fake_config_write(f, SLOT, at + 16, 4, i % 2);
	}
	return NULL;
}

static void *notify_all_the_time(void *arg)
{
	while (!quit)
		fake_kick(&driver, 0);
	return NULL;
}

/*
 * vCPUs stand still while a snapshot is taken, so what they hold cannot matter; that no circle of
 * locks is left does not hang on it. The thread sanitizer sees circles that did not close, too.
 */
static void a_moving_bar_and_resets_never_lock_a_snapshot_out(void **state)
{
	void *(*const mains[])(void *) = {reset_where_it_may_be, move_the_bar, notify_all_the_time};
	pthread_t threads[ARRAY_SIZE(mains)];

	quit = false;
	alarm(60); /* of a deadlock there is nothing to wait for */
	for (unsigned i = 0; i < ARRAY_SIZE(mains); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, mains[i], NULL), 0);
	for (unsigned i = 0; i < 300; i++) {
		struct snapshot_writer w;

		snapshot_writer_init(&w);
		pci_bus_quiesce(bus);
		assert_int_equal(pci_bus_save(bus, &w, NULL), 0);
		pci_bus_resume(bus);
		assert_int_equal(snapshot_finish(&w), 0);
		snapshot_writer_done(&w);
	}
	quit = true;
	for (unsigned i = 0; i < ARRAY_SIZE(mains); i++)
		pthread_join(threads[i], NULL);
	alarm(0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(shows_all_its_structures),
		T(a_reset_device_is_blank),
		T(offers_features_by_halves),
		T(accepts_only_what_it_offered),
		T(features_are_fixed_once_accepted),
		T(status_bits_only_add_up),
		T(does_not_start_without_features_ok),
		T(an_enabled_queue_is_fixed),
		T(a_vector_that_does_not_exist_reads_as_none),
		T(serves_a_queue_and_interrupts),
		cmocka_unit_test_setup_teardown(
			serves_a_queue_without_doorbells, setup_without_doorbells, teardown),
		T(doorbells_follow_the_bar),
		T(looks_at_queues_that_were_notified_too_early),
		T(a_bad_chain_needs_a_reset),
		T(a_bad_queue_needs_a_reset),
		T(a_reset_waits_for_the_chain_at_work),
		T(device_configuration_is_bounded),
		T(odd_accesses_change_what_they_cover),
		T(tells_of_changed_configuration),
		T(the_isr_serves_drivers_without_msix),
		T(the_configuration_window_reaches_the_bar),
		T(the_configuration_window_refuses_nonsense),
		T(event_index_keeps_interrupts_back),
		T(survives_resets_while_it_works),
		T(a_moving_bar_and_resets_never_lock_a_snapshot_out),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
