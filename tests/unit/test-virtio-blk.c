/* virtio-blk: requests of each kind, their bounds, bad ones, resets, and the busy rule. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "fake-driver.h"
#include "kvm-glue/disk.h"
#include "kvm-glue/virtio-blk.h"
#include "kvm-glue/virtio-pci.h"
#include "memd/base/fd.h"

enum {
	SLOT = 3,
	SECTORS = 4096,
	BYTES = SECTORS * DISK_SECTOR_BYTES,

	IN = 0,
	OUT = 1,
	FLUSH = 4,
	GET_ID = 8,
	DISCARD = 11,
	WRITE_ZEROES = 13,

	OK = 0,
	IOERR = 1,
	UNSUPP = 2,
	NOT_ANSWERED = 0x77,

	F_RO = 1 << 5,
	F_FLUSH = 1 << 9,
	F_MQ = 1 << 12,
	F_DISCARD = 1 << 13,
};
/* Guest addresses: a header, a status byte, data. */
#define HEADER_GPA FAKE_BUFFERS_GPA
#define STATUS_GPA (FAKE_BUFFERS_GPA + 64)
#define DATA_GPA   (FAKE_BUFFERS_GPA + 0x1000)

static char path[64];
static int file; /* the test's own look at the disk */
static struct fake_machine *f;
static struct pci_bus *bus;
static void *disk;
static struct fake_driver driver;

static uint8_t content(uint64_t offset)
{
	return (uint8_t)(offset / DISK_SECTOR_BYTES * 7 + offset % 251);
}

static int setup(void **state)
{
	uint8_t *bytes = malloc(BYTES);

	log_set_max_level(LOG_LEVEL_ERROR);
	snprintf(path, sizeof(path), "/var/tmp/memd-blk.XXXXXX");
	file = mkstemp(path);
	assert_true(file >= 0);
	for (unsigned i = 0; i < BYTES; i++)
		bytes[i] = content(i);
	assert_int_equal(fd_write_full(file, bytes, BYTES), 0);
	free(bytes);
	f = fake_machine_new();
	assert_int_equal(pci_bus_new(&f->machine, &bus), 0);
	disk = NULL;
	return 0;
}

static int teardown(void **state)
{
	uint64_t calls;

	virtio_blk_kind.free(disk);
	assert_int_equal(fake_busy_pages(f, &calls), 0);
	pci_bus_free(bus);
	fake_machine_free(f);
	close(file);
	unlink(path);
	return 0;
}

static int open_disk(const char *options)
{
	struct error e = {0};
	char spec[96];

	snprintf(spec, sizeof(spec), "%s%s", path, options);
	return virtio_blk_kind.open(spec, &disk, &e);
}

static void plug(const char *options, uint64_t features, unsigned n_queues)
{
	assert_int_equal(open_disk(options), 0);
	assert_int_equal(virtio_blk_kind.plug(disk, &f->machine, bus, SLOT), 0);
	fake_driver_init(&driver, f, SLOT);
	fake_driver_start(&driver, features, n_queues);
}

static uint8_t *ram(uint64_t gpa)
{
	return fake_ram(f, gpa, 1);
}

static void put_header(uint32_t type, uint64_t sector)
{
	const struct {
		uint32_t type, reserved;
		uint64_t sector;
	} h = {type, 0, sector};

	memcpy(ram(HEADER_GPA), &h, sizeof(h));
	*ram(STATUS_GPA) = NOT_ANSWERED;
}

/* One request with its data at gpa, in one buffer; the status. */
static unsigned request_at(unsigned q, uint32_t type, uint64_t sector, uint64_t gpa, uint32_t bytes)
{
	const struct fake_buffer buffers[] = {
		{HEADER_GPA, 16, false},
		{gpa, bytes, type == IN || type == GET_ID},
		{STATUS_GPA, 1, true},
	};

	put_header(type, sector);
	if (bytes > 0) {
		fake_request(&driver, q, buffers, 3);
	} else {
		const struct fake_buffer two[] = {buffers[0], buffers[2]};

		fake_request(&driver, q, two, 2);
	}
	return *ram(STATUS_GPA);
}

static unsigned request(uint32_t type, uint64_t sector, uint32_t bytes)
{
	return request_at(0, type, sector, DATA_GPA, bytes);
}

static void assert_file(uint64_t offset, uint64_t bytes, int fill)
{
	uint8_t *got = malloc(bytes);

	assert_int_equal(fd_pread_full(file, got, bytes, (off_t)offset), 0);
	for (uint64_t i = 0; i < bytes; i++)
		assert_int_equal(got[i], fill < 0 ? content(offset + i) : fill);
	free(got);
}

static void assert_ram(uint64_t gpa, uint64_t offset, uint64_t bytes)
{
	for (uint64_t i = 0; i < bytes; i++)
		assert_int_equal(ram(gpa)[i], content(offset + i));
}

static void reads_what_is_in_the_file(void **state)
{
	plug("", UINT64_MAX, 1);
	assert_int_equal(request(IN, 0, 512), OK);
	assert_ram(DATA_GPA, 0, 512);
	assert_int_equal(request(IN, 100, 65536), OK);
	assert_ram(DATA_GPA, 100 * 512, 65536);
}

static void writes_where_it_is_told_and_nowhere_else(void **state)
{
	plug("", UINT64_MAX, 1);
	memset(ram(DATA_GPA), 0xa5, 8192);
	assert_int_equal(request(OUT, 9, 8192), OK);
	assert_file(0, 9 * 512, -1);
	assert_file(9 * 512, 8192, 0xa5);
	assert_file(9 * 512 + 8192, BYTES - 9 * 512 - 8192, -1);
}

/* Header, data and status cut in any way (virtio 1.2, 2.7.4.2). */
static void buffers_may_be_cut_anywhere(void **state)
{
	const struct fake_buffer in[] = {
		{HEADER_GPA, 7, false}, {HEADER_GPA + 7, 9, false}, {DATA_GPA + 3, 1, true},
		{DATA_GPA + 100, 1000, true}, {DATA_GPA + 8192, 23, true}, /* 1024 bytes, nearly */
		{DATA_GPA + 9000, 1, true}, /* the status */
	};
	struct fake_buffer all[ARRAY_SIZE(in)];
	const struct fake_buffer out[] = {
		{HEADER_GPA, 10, false},
		{HEADER_GPA + 10, 6 + 512, false}, /* data behind the header */
		{STATUS_GPA + 1000, 1, true},
	};

	plug("", UINT64_MAX, 1);
	memcpy(all, in, sizeof(in));
	all[4].bytes = 1024 - 1001 + 1; /* with the status as its last byte */
	put_header(IN, 5);
	fake_request(&driver, 0, all, 5);
	assert_int_equal(ram(DATA_GPA + 3)[0], content(5 * 512));
	assert_ram(DATA_GPA + 100, 5 * 512 + 1, 1000);
	assert_ram(DATA_GPA + 8192, 5 * 512 + 1001, 23);
	assert_int_equal(ram(DATA_GPA + 8192)[23], OK);
	put_header(OUT, 6);
	memset(ram(HEADER_GPA + 16), 0x3c, 512);
	fake_request(&driver, 0, out, 3);
	assert_int_equal(*ram(STATUS_GPA + 1000), OK);
	assert_file(6 * 512, 512, 0x3c);
	assert_file(7 * 512, 512, -1);
}

static void capacity_is_the_end(void **state)
{
	plug("", UINT64_MAX, 1);
	assert_int_equal(fake_mmio_read(f, driver.device, 8), SECTORS);
	assert_int_equal(request(IN, SECTORS - 1, 512), OK);
	assert_int_equal(request(IN, SECTORS, 512), IOERR);
	assert_int_equal(request(IN, SECTORS - 1, 1024), IOERR);
	assert_int_equal(request(IN, UINT64_MAX, 512), IOERR);
	assert_int_equal(request(IN, UINT64_MAX / 512 + 1, 512), IOERR); /* its offset wraps */
	assert_int_equal(request(OUT, SECTORS - 1, 1024), IOERR);
	assert_int_equal(request(IN, SECTORS, 0), OK);
	assert_file(0, BYTES, -1);
}

static void refuses_parts_of_sectors(void **state)
{
	plug("", UINT64_MAX, 1);
	assert_int_equal(request(IN, 0, 511), IOERR);
	assert_int_equal(request(IN, 0, 513), IOERR);
	assert_int_equal(request(OUT, 0, 513), IOERR);
	assert_file(0, BYTES, -1);
}

static void truncated_file_is_an_error(void **state)
{
	plug("", UINT64_MAX, 1);
	assert_int_equal(ftruncate(file, BYTES / 2), 0);
	assert_int_equal(request(IN, SECTORS / 2 - 1, 512), OK);
	assert_int_equal(request(IN, SECTORS / 2 - 1, 1024), IOERR);
	assert_int_equal(request(IN, SECTORS / 2, 512), IOERR);
}

static void read_only_disk_says_so_and_stays(void **state)
{
	plug(",ro", UINT64_MAX, 1);
	assert_true(driver.features & F_RO);
	assert_false(driver.features & F_DISCARD);
	assert_int_equal(request(IN, 1, 512), OK);
	assert_int_equal(request(OUT, 1, 512), IOERR);
	assert_int_equal(request(DISCARD, 0, 16), UNSUPP);
	assert_int_equal(request(FLUSH, 0, 0), OK);
	assert_file(0, BYTES, -1);
}

static void flush_identity_and_unknown_requests_are_answered(void **state)
{
	plug(",serial=memd-1", UINT64_MAX, 1);
	assert_int_equal(request(FLUSH, 0, 0), OK);
	assert_int_equal(request(GET_ID, 0, 20), OK);
	assert_string_equal((char *)ram(DATA_GPA), "memd-1");
	memset(ram(DATA_GPA), 0x55, 8);
	assert_int_equal(request(GET_ID, 0, 3), OK); /* a part of it; what follows stays */
	assert_memory_equal(ram(DATA_GPA), "mem\x55", 4);
	assert_int_equal(request(2, 0, 0), UNSUPP);
	assert_int_equal(request(UINT32_MAX, 0, 512), UNSUPP);
}

static unsigned zeroes(uint32_t type, uint64_t sector, uint32_t n_sectors, uint32_t flags)
{
	const struct {
		uint64_t sector;
		uint32_t n_sectors, flags;
	} segment = {sector, n_sectors, flags};

	memcpy(ram(DATA_GPA), &segment, sizeof(segment));
	return request(type, 0, sizeof(segment));
}

static void discard_and_write_zeroes_stay_in_their_range(void **state)
{
	struct stat before, after;

	plug("", UINT64_MAX, 1);
	assert_int_equal(fstat(file, &before), 0);
	assert_int_equal(zeroes(WRITE_ZEROES, 3, 5, 0), OK);
	assert_file(0, 3 * 512, -1);
	assert_file(3 * 512, 5 * 512, 0);
	assert_int_equal(zeroes(WRITE_ZEROES, 1024, 1024, 1), OK);
	assert_file(8 * 512, 1016 * 512, -1);
	assert_file(1024 * 512, 1024 * 512, 0);
	assert_int_equal(zeroes(DISCARD, 2048, 1024, 0), OK);
	assert_file(3072 * 512, BYTES - 3072 * 512, -1);
	assert_int_equal(fstat(file, &after), 0);
	assert_int_equal(after.st_size, before.st_size);
	assert_true(after.st_blocks < before.st_blocks);
}

static void discard_and_write_zeroes_have_bounds(void **state)
{
	plug("", UINT64_MAX, 1);
	assert_int_equal(zeroes(DISCARD, SECTORS, 1, 0), IOERR);
	assert_int_equal(zeroes(WRITE_ZEROES, SECTORS - 1, 2, 0), IOERR);
	assert_int_equal(zeroes(WRITE_ZEROES, UINT64_MAX, 1, 0), IOERR);
	assert_int_equal(zeroes(WRITE_ZEROES, 0, UINT32_MAX, 0), IOERR);
	assert_int_equal(zeroes(DISCARD, 0, 1, 1), UNSUPP); /* unmap is not for a discard */
	assert_int_equal(zeroes(WRITE_ZEROES, 0, 1, 2), UNSUPP);
	assert_int_equal(request(WRITE_ZEROES, 0, 8), IOERR); /* half a segment */
	assert_int_equal(request(WRITE_ZEROES, 0, 32), IOERR); /* two */
	assert_file(0, BYTES, -1);
	assert_int_equal(zeroes(WRITE_ZEROES, SECTORS - 1, 1, 0), OK);
	assert_file(BYTES - 512, 512, 0);
}

static void assert_breaks(const struct fake_buffer *buffers, unsigned n)
{
	fake_driver_start(&driver, UINT64_MAX, 1);
	put_header(IN, 0);
	fake_add(&driver, 0, buffers, n);
	fake_kick(&driver, 0);
	assert_true(fake_wait_status(&driver, VIRTIO_STATUS_NEEDS_RESET));
}

static void chains_that_are_no_request_break_the_device(void **state)
{
	const struct fake_buffer short_header[] = {{HEADER_GPA, 15, false}, {STATUS_GPA, 1, true}};
	const struct fake_buffer no_status[] = {{HEADER_GPA, 16, false}};
	const struct fake_buffer no_header[] = {{STATUS_GPA, 1, true}};

	plug("", UINT64_MAX, 1);
	assert_breaks(short_header, 2);
	assert_breaks(no_status, 1);
	assert_breaks(no_header, 1);
	assert_int_equal(virtio_blk_kind.needs_reset(disk), 3);
	fake_driver_start(&driver, UINT64_MAX, 1);
	assert_int_equal(request(IN, 1, 512), OK);
}

static void direct_io_takes_any_address(void **state)
{
	if (open_disk(",direct") == -EINVAL) {
		print_message("# no direct I/O in /var/tmp\n");
		return;
	}
	virtio_blk_kind.free(disk);
	plug(",direct", UINT64_MAX, 1);
	assert_int_equal(request_at(0, IN, 8, DATA_GPA, 65536), OK);
	assert_ram(DATA_GPA, 8 * 512, 65536);
	assert_int_equal(request_at(0, IN, 9, DATA_GPA + 3, 1024), OK);
	assert_ram(DATA_GPA + 3, 9 * 512, 1024);
	memset(ram(DATA_GPA + 1), 0x11, 512);
	assert_int_equal(request_at(0, OUT, 31, DATA_GPA + 1, 512), OK);
	assert_int_equal(
		request_at(0, IN, 24, DATA_GPA, 4096), OK); /* direct again: it sees that */
	assert_ram(DATA_GPA, 24 * 512, 7 * 512);
	assert_int_equal(ram(DATA_GPA)[7 * 512], 0x11);
	assert_file(30 * 512, 512, -1);
	assert_file(31 * 512, 512, 0x11);
	assert_file(32 * 512, 512, -1);
}

static void queues_are_served_each(void **state)
{
	plug(",queues=8", UINT64_MAX, 8);
	assert_true(driver.features & F_MQ);
	assert_int_equal(fake_mmio_read(f, driver.device + 34, 2), 8);
	for (unsigned q = 0; q < 8; q++) {
		assert_int_equal(request_at(q, IN, q, DATA_GPA, 512), OK);
		assert_ram(DATA_GPA, q * 512, 512);
		assert_true(fake_vector_take(&driver, q + 1) > 0);
	}
}

/* Fills all queues: more than the device works on at once. Returns how many. */
static unsigned add_many(unsigned n_queues, uint32_t bytes)
{
	unsigned n = 0;

	put_header(IN, 0);
	for (unsigned q = 0; q < n_queues; q++) {
		for (unsigned i = 0; i < driver.queues[q].size / 3u; i++, n++) {
			const struct fake_buffer buffers[] = {
				{HEADER_GPA, 16, false},
				{DATA_GPA + (uint64_t)(n % 64) * bytes, bytes, true},
				{STATUS_GPA + n, 1, true},
			};

			*ram(STATUS_GPA + n) = NOT_ANSWERED;
			fake_add(&driver, q, buffers, 3);
		}
		fake_kick(&driver, q);
	}
	return n;
}

static void more_requests_than_fit_wait_and_are_all_answered(void **state)
{
	unsigned n;

	plug(",queues=8", UINT64_MAX, 8);
	n = add_many(8, 4096);
	assert_true(n > 256);
	for (unsigned q = 0; q < 8; q++)
		for (unsigned i = 0; i < driver.queues[q].size / 3u; i++)
			assert_true(fake_wait_used(&driver, q, NULL, NULL));
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(*ram(STATUS_GPA + i), OK);
}

static void reset_waits_for_what_is_under_way(void **state)
{
	uint64_t before, calls;

	plug(",queues=2", UINT64_MAX, 2);
	for (unsigned turn = 0; turn < 50; turn++) {
		fake_busy_pages(f, &before);
		add_many(2, 32768);
		for (calls = before; calls == before;)
			fake_busy_pages(f, &calls);
		fake_driver_reset(&driver);
		assert_int_equal(fake_busy_pages(f, &calls), 0);
		fake_driver_start(&driver, UINT64_MAX, 2);
	}
	assert_int_equal(request(IN, 3, 512), OK);
	assert_ram(DATA_GPA, 3 * 512, 512);
}

static void everything_the_kernel_gets_is_marked_busy(void **state)
{
	uint64_t before, after;

	plug("", UINT64_MAX, 1);
	fake_busy_pages(f, &before);
	assert_int_equal(request(IN, 0, 8192), OK);
	assert_int_equal(fake_busy_pages(f, &after), 0);
	assert_int_equal(after - before, 2); /* the data, and the buffer of the status */
	assert_int_equal(request(OUT, 0, 8192), OK);
	fake_busy_pages(f, &before);
	assert_int_equal(before - after, 2);
	assert_int_equal(request(FLUSH, 0, 0), OK);
	fake_busy_pages(f, &after);
	assert_int_equal(after, before);
}

static void cache_is_switched_by_the_driver(void **state)
{
	plug("", UINT64_MAX, 1);
	assert_int_equal(fake_mmio_read(f, driver.device + 32, 1), 1);
	fake_mmio_write(f, driver.device + 32, 1, 0);
	assert_int_equal(fake_mmio_read(f, driver.device + 32, 1), 0);
	memset(ram(DATA_GPA), 0x42, 512);
	assert_int_equal(request(OUT, 1, 512), OK);
	fake_mmio_write(f, driver.device, 8, 0); /* the capacity is not the guest's */
	assert_int_equal(fake_mmio_read(f, driver.device, 8), SECTORS);
	fake_driver_start(&driver, ~(uint64_t)F_FLUSH, 1);
	assert_int_equal(fake_mmio_read(f, driver.device + 32, 1), 1);
	assert_int_equal(request(OUT, 2, 512), OK);
	assert_file(512, 1024, 0x42);
}

static void one_writer_or_many_readers(void **state)
{
	void *second = NULL;
	struct error e = {0};
	char spec[96];

	assert_int_equal(open_disk(""), 0);
	assert_int_equal(virtio_blk_kind.open(path, &second, &e), -EWOULDBLOCK);
	virtio_blk_kind.free(disk);
	snprintf(spec, sizeof(spec), "%s,ro", path);
	assert_int_equal(open_disk(",ro"), 0);
	assert_int_equal(virtio_blk_kind.open(spec, &second, &e), 0);
	virtio_blk_kind.free(second);
}

static void what_is_no_disk_is_refused(void **state)
{
	struct error e = {0};
	void *none = NULL;

	assert_int_equal(virtio_blk_kind.open("/", &none, &e), -EISDIR);
	assert_int_equal(virtio_blk_kind.open("/dev/null", &none, &e), -EINVAL);
	assert_int_equal(virtio_blk_kind.open("/no/such", &none, &e), -ENOENT);
	assert_int_equal(open_disk(",queues=0"), -ERANGE);
	assert_int_equal(open_disk(",queues=9"), -ERANGE);
	assert_int_equal(open_disk(",rw"), -EINVAL);
	assert_int_equal(open_disk(",serial=123456789012345678901"), -EINVAL);
	assert_int_equal(ftruncate(file, 511), 0);
	assert_int_equal(open_disk(""), -EINVAL);
	assert_int_equal(ftruncate(file, 512), 0);
	assert_int_equal(open_disk(",serial=12345678901234567890"), 0);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(reads_what_is_in_the_file),
		T(writes_where_it_is_told_and_nowhere_else),
		T(buffers_may_be_cut_anywhere),
		T(capacity_is_the_end),
		T(refuses_parts_of_sectors),
		T(truncated_file_is_an_error),
		T(read_only_disk_says_so_and_stays),
		T(flush_identity_and_unknown_requests_are_answered),
		T(discard_and_write_zeroes_stay_in_their_range),
		T(discard_and_write_zeroes_have_bounds),
		T(chains_that_are_no_request_break_the_device),
		T(direct_io_takes_any_address),
		T(queues_are_served_each),
		T(more_requests_than_fit_wait_and_are_all_answered),
		T(reset_waits_for_what_is_under_way),
		T(everything_the_kernel_gets_is_marked_busy),
		T(cache_is_switched_by_the_driver),
		T(one_writer_or_many_readers),
		T(what_is_no_disk_is_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("virtio-blk", tests, NULL, NULL);
}
