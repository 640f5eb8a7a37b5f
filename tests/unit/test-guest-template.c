/*
 * Guest RAM as a copy of a template: what is shared, what a write changes, and what freezing, dropping
 * and restoring do to it. With threads and a guest it is in tests/guest/test-snapshot.c.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "dedup/freeze.h"
#include "dedup/page-hash.h"
#include "dedup/scan.h"
#include "memd/base/fd.h"
#include "memd/base/overflow.h"
#include "memd/base/template-file.h"

#define N_CHUNKS 4
#define N_PAGES	 (N_CHUNKS * CHUNK_PAGES)
#define BYTES	 (N_PAGES * PAGE_BYTES)

/* Pages with content: [10, 20), a short hole, [30, 40), a long one, [CHUNK_PAGES, + 100). */
static bool has_content(uint64_t page)
{
	return (page >= 10 && page < 20) || (page >= 30 && page < 40) ||
	       (page >= CHUNK_PAGES && page < CHUNK_PAGES + 100);
}

static void fill(uint8_t *page, uint64_t number)
{
	memset(page, (int)(number % 251) + 1, PAGE_BYTES);
}

struct world {
	int memfd; /* the template */
	struct guest_ram *ram;
};

/* A snapshot's RAM file. */
static int new_file(void)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	uint8_t page[PAGE_BYTES];

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, BYTES), 0);
	for (uint64_t i = 0; i < N_PAGES; i++) {
		if (!has_content(i))
			continue;
		fill(page, i);
		assert_int_equal(fd_pwrite_full(fd, page, PAGE_BYTES, (off_t)(i * PAGE_BYTES)), 0);
	}
	return fd;
}

static struct guest_ram *new_ram(void)
{
	const struct guest_ram_layout layout[] = {
		{.gpa = 0, .bytes = BYTES / 2}, {.gpa = 1 * GIB, .bytes = BYTES / 2}};
	struct guest_ram *ram = NULL;

	assert_int_equal(guest_ram_new(layout, 2, &ram, NULL), 0);
	return ram;
}

static int setup(void **state)
{
	_cleanup_close_ int file = new_file();
	struct world *w = calloc(1, sizeof(*w));
	struct error e = {0};

	if (!w || template_file_load(file, BYTES, &w->memfd, &e) < 0)
		return -1;
	w->ram = new_ram();
	*state = w;
	return guest_ram_set_template(w->ram, w->memfd, &e);
}

static int teardown(void **state)
{
	struct world *w = *state;

	guest_ram_free(w->ram);
	close(w->memfd);
	free(w);
	return 0;
}

static struct guest_ram_census census(struct world *w)
{
	struct guest_ram_census c;
	uint64_t sum;

	assert_int_equal(guest_ram_census(w->ram, &c), 0);
	sum = c.private_pages + c.shared_pages + c.template_pages + c.swapped_pages;
	for (unsigned i = 0; i < ARRAY_SIZE(c.hole_pages); i++)
		sum += c.hole_pages[i];
	assert_int_equal(sum, N_PAGES);
	return c;
}

static void a_template_holds_the_data_only_and_cannot_be_changed(void **state)
{
	struct world *w = *state;
	uint8_t page[PAGE_BYTES] = {0};

	assert_int_equal(template_file_allocated_bytes(w->memfd), 120 * PAGE_BYTES);
	assert_true(template_file_is_sealed(w->memfd, BYTES));
	assert_false(template_file_is_sealed(w->memfd, BYTES - PAGE_BYTES));
	assert_int_equal(pwrite(w->memfd, page, PAGE_BYTES, 0), -1);
	assert_int_equal(ftruncate(w->memfd, 0), -1);
}

static void a_file_of_another_size_is_no_template(void **state)
{
	_cleanup_close_ int file = new_file();
	struct error e = {0};
	int memfd = -1;

	assert_int_equal(template_file_load(file, BYTES - PAGE_BYTES, &memfd, &e), -EINVAL);
	assert_int_equal(memfd, -1);
	assert_non_null(strstr(e.text, "damaged"));
}

static void what_is_not_sealed_is_no_template(void **state)
{
	_cleanup_close_ int memfd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct guest_ram *ram = new_ram();

	assert_int_equal(ftruncate(memfd, BYTES), 0);
	assert_int_equal(guest_ram_set_template(ram, memfd, NULL), -EINVAL);
	guest_ram_free(ram);
}

static void a_fresh_clone_reads_the_template_and_owns_nothing(void **state)
{
	struct world *w = *state;
	struct guest_ram_census c = census(w);
	uint8_t want[PAGE_BYTES];

	/* the short hole is mapped, too; the long ones are not */
	assert_int_equal(c.template_pages, 30 + 100);
	assert_int_equal(c.hole_pages[HOLE_UNTOUCHED], N_PAGES - 130);
	assert_int_equal(c.private_pages, 0);
	assert_int_equal(
		c.mappings, 6); /* three anonymous ones, two of the template, the other range */
	for (uint64_t i = 0; i < N_PAGES; i++) {
		memset(want, 0, sizeof(want));
		if (has_content(i))
			fill(want, i);
		assert_memory_equal(guest_ram_page_ptr(w->ram, i), want, PAGE_BYTES);
	}
	c = census(w);
	assert_int_equal(c.template_pages, 130);
	assert_int_equal(c.private_pages, 0);
	/* reading has filled the short hole once, for all clones */
	assert_int_equal(template_file_allocated_bytes(w->memfd), 130 * PAGE_BYTES);
}

static void a_write_is_the_clones_own(void **state)
{
	struct world *w = *state;
	struct guest_ram *other = new_ram();
	uint8_t want[PAGE_BYTES];
	struct guest_ram_census c;

	assert_int_equal(guest_ram_set_template(other, w->memfd, NULL), 0);
	guest_ram_page_ptr(w->ram, 15)[100] = 0xee;
	c = census(w);
	assert_int_equal(c.template_pages, 129);
	assert_int_equal(c.private_pages, 1);
	assert_int_equal(c.broken_pages, 1);
	fill(want, 15);
	assert_memory_equal(guest_ram_page_ptr(other, 15), want, PAGE_BYTES);
	assert_memory_equal(guest_ram_template_page(w->ram, 15), want, PAGE_BYTES);
	assert_null(guest_ram_template_page(w->ram, 9));
	guest_ram_free(other);
}

static void pages_are_given_back_as_holes(void **state)
{
	struct world *w = *state;
	struct guest_ram_census c;

	assert_int_equal(guest_ram_discard(w->ram, 5, 10, HOLE_BALLOON, NULL), 0);
	c = census(w);
	assert_int_equal(c.template_pages, 125);
	assert_int_equal(c.hole_pages[HOLE_BALLOON], 10);
	assert_int_equal(guest_ram_page_ptr(w->ram, 12)[0], 0);
	assert_int_equal(guest_ram_page_ptr(w->ram, 15)[0], 16);
}

static void the_scanner_drops_zeros_and_restores_what_is_as_it_was(void **state)
{
	struct world *w = *state;
	struct guest_ram_census c;
	struct scan *s = NULL;
	uint8_t want[PAGE_BYTES];

	assert_int_equal(scan_new(w->ram, 1000, &s), 0);
	guest_ram_page_ptr(w->ram, 11)[7] = 0xee; /* written, and written back */
	fill(guest_ram_page_ptr(w->ram, 11), 11);
	memset(guest_ram_page_ptr(w->ram, 12), 0, PAGE_BYTES);
	guest_ram_page_ptr(w->ram, 13)[7] = 0xee;
	guest_ram_page_ptr(w->ram, 14)[7] = 0; /* never differs from zero, but written */
	memset(guest_ram_page_ptr(w->ram, 22), 0, PAGE_BYTES); /* zero in the template, too */
	assert_int_equal(census(w).private_pages, 5);
	scan_pages(s, 0, CHUNK_PAGES, SCANNER_SHARE);
	c = census(w);
	assert_int_equal(c.private_pages, 2);
	assert_int_equal(c.hole_pages[HOLE_ZERO], 2);
	assert_int_equal(c.template_pages, 130 - 4);
	fill(want, 11);
	assert_memory_equal(guest_ram_page_ptr(w->ram, 11), want, PAGE_BYTES);
	assert_int_equal(guest_ram_page_ptr(w->ram, 12)[0], 0);
	assert_int_equal(guest_ram_page_ptr(w->ram, 13)[7], 0xee);
	/* nothing is left frozen: all can be written */
	for (uint64_t i = 0; i < CHUNK_PAGES; i++)
		guest_ram_page_ptr(w->ram, i)[0] = 1;
	scan_free(s);
}

static void what_is_saved_is_what_was_there(void **state)
{
	struct world *w = *state;
	_cleanup_close_ int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	atomic_bool cancel = false;
	uint8_t *got = malloc(PAGE_BYTES);

	guest_ram_page_ptr(w->ram, 3)[0] = 3; /* in a hole */
	guest_ram_page_ptr(w->ram, N_PAGES - 1)[PAGE_BYTES - 1] = 9; /* of the other range */
	guest_ram_page_ptr(w->ram, 15)[100] = 0xee;
	assert_int_equal(guest_ram_save(w->ram, fd, &cancel), 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), BYTES);
	for (uint64_t i = 0; i < N_PAGES; i++) {
		assert_int_equal(fd_pread_full(fd, got, PAGE_BYTES, (off_t)(i * PAGE_BYTES)), 0);
		assert_memory_equal(guest_ram_page_ptr(w->ram, i), got, PAGE_BYTES);
	}
	cancel = true;
	assert_int_equal(guest_ram_save(w->ram, fd, &cancel), -ECANCELED);
	free(got);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_template_holds_the_data_only_and_cannot_be_changed),
		TEST(a_file_of_another_size_is_no_template),
		TEST(what_is_not_sealed_is_no_template),
		TEST(a_fresh_clone_reads_the_template_and_owns_nothing),
		TEST(a_write_is_the_clones_own),
		TEST(pages_are_given_back_as_holes),
		TEST(the_scanner_drops_zeros_and_restores_what_is_as_it_was),
		TEST(what_is_saved_is_what_was_there),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
