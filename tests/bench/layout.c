/*
 * A plan says for each page of each guest what it is: one of its own (unique), one of a set that
 * every guest holds once (a duplicate), a page of a file of this machine, or zeroes. The sets are
 * shuffled for each guest in runs, so that a run of duplicates has the same neighbours in all
 * guests, and nothing else has.
 */
#include "tests/bench/layout.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "memd/base/fd.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"

#define KIND_UNIQUE    (UINT64_C(1) << 60)
#define KIND_DUPLICATE (UINT64_C(2) << 60)
#define KIND_FILE      (UINT64_C(3) << 60)
#define KIND_ZERO      (UINT64_C(4) << 60)
#define KIND_MASK      (UINT64_C(15) << 60)
#define GUEST_SHIFT    40
#define PAGE_WORDS     (PAGE_BYTES / sizeof(uint64_t))
#define PREFIX_WORDS   (2048 / sizeof(uint64_t))

/* os-image: shares of a guest's memory in percent; the rest is unique (its processes' own) */
#define FILE_PERCENT	60
#define ZERO_PERCENT	5
#define WINDOW_PAGES	32 /* read-ahead: a file is in the cache in pieces of 128 KiB */
#define PRESENT_PERCENT 80 /* of those pieces */
#define EXTENT_PAGES	16 /* what the guest's allocator gives in a row, at most */
#define FILES_BYTES_MAX (UINT64_C(256) << 20)

struct layout {
	unsigned n_guests;
	uint64_t n_pages;
	uint64_t *plans; /* n_guests x n_pages */
	bool has_prefix;
	uint64_t hot_pages;
	uint8_t *files; /* whole pages, one file after the other */
	uint64_t n_file_pages;
};

const struct layout_kind layout_kinds[] = {
	{"sparse", "6 % duplicates, single pages, the rest unique"},
	{"scattered", "every second page a duplicate"},
	{"runs8", "half duplicates, in runs of 8 pages"},
	{"runs64", "half duplicates, in runs of 64 pages"},
	{"clones", "all guests equal, page for page"},
	{"shared-prefix", "as runs8, and the first 2 KiB of all pages are equal"},
	{"os-image", "files of this machine as page caches hold them, zero pages, unique pages"},
	{"volatile", "as runs8, and the last 30 % are rewritten all the time"},
	{0},
};

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static uint64_t draw(uint64_t *state)
{
	*state += UINT64_C(0x9e3779b97f4a7c15);
	return mix(*state);
}

static uint64_t *plan_of(const struct layout *l, unsigned guest)
{
	return l->plans + guest * l->n_pages;
}

static uint64_t unique_page(unsigned guest, uint64_t i)
{
	return KIND_UNIQUE | (uint64_t)guest << GUEST_SHIFT | i;
}

static int shuffled(uint64_t n, uint64_t seed, uint64_t **ret)
{
	uint64_t *order = calloc(n + 1, sizeof(*order));

	if (!order)
		return -ENOMEM;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t j = draw(&seed) % (i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	*ret = order;
	return 0;
}

/* In each block of `period` pages one run of duplicates, at a place of its own. */
static int plan_runs(struct layout *l, uint64_t period, uint64_t run)
{
	for (unsigned guest = 0; guest < l->n_guests; guest++) {
		_cleanup_free_ uint64_t *order = NULL;
		uint64_t n_blocks = l->n_pages / period, seed = guest + 1;
		uint64_t *plan = plan_of(l, guest);
		int r = shuffled(n_blocks, seed, &order);

		if (r < 0)
			return r;
		for (uint64_t i = 0; i < l->n_pages; i++)
			plan[i] = unique_page(guest, i);
		for (uint64_t block = 0; block < n_blocks; block++) {
			uint64_t at = block * period;

			if (run == 1)
				at += draw(&seed) % (period - 1);
			for (uint64_t k = 0; k < run; k++)
				plan[at + k] = KIND_DUPLICATE | (order[block] * run + k);
		}
	}
	return 0;
}

static int plan_clones(struct layout *l)
{
	for (unsigned guest = 0; guest < l->n_guests; guest++)
		for (uint64_t i = 0; i < l->n_pages; i++)
			plan_of(l, guest)[i] = KIND_DUPLICATE | i;
	return 0;
}

/* Appends a regular file, its last page filled up with zeroes. Unreadable ones are left out. */
static void add_file(struct layout *l, int dir_fd, const char *name)
{
	_cleanup_close_ int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < 65536 ||
		l->n_file_pages * PAGE_BYTES + (uint64_t)st.st_size > FILES_BYTES_MAX)
		return;
	if (fd_read_full(fd, l->files + l->n_file_pages * PAGE_BYTES, (size_t)st.st_size) == 0)
		l->n_file_pages += ((uint64_t)st.st_size + PAGE_BYTES - 1) / PAGE_BYTES;
}

static void add_directory(struct layout *l, const char *path)
{
	struct dirent **entries;
	int n = scandir(path, &entries, NULL, alphasort);
	_cleanup_close_ int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; i < n; i++) {
		add_file(l, dir_fd, entries[i]->d_name);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
}

/* The kernels, shared libraries and programs of this machine, as far as they go. */
static int read_files(struct layout *l)
{
	static const char *const directories[] = {
		"/boot", "/usr/lib/x86_64-linux-gnu", "/usr/bin", "/usr/sbin"};

	l->files = calloc(1, FILES_BYTES_MAX + PAGE_BYTES);
	if (!l->files)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(directories); i++)
		add_directory(l, directories[i]);
	return l->n_file_pages ? 0 : -ENOENT;
}

/*
 * A guest reads the windows of files in an order of its own, and its allocator lays them down in
 * extents of 1 to EXTENT_PAGES pages, between pages of its processes.
 */
static int plan_os_image(struct layout *l)
{
	uint64_t n_windows, n_file, n_zero;
	int r = read_files(l);

	if (r < 0)
		return r;
	n_windows = l->n_file_pages / WINDOW_PAGES;
	n_file = l->n_pages * FILE_PERCENT / 100;
	n_zero = l->n_pages * ZERO_PERCENT / 100;
	/* what all guests together have read: no more than one of them can hold */
	n_windows = u64_min(n_windows, n_file * 100 / PRESENT_PERCENT / WINDOW_PAGES);
	for (unsigned guest = 0; guest < l->n_guests; guest++) {
		_cleanup_free_ uint64_t *order = NULL;
		uint64_t *plan = plan_of(l, guest), seed = guest + 1, at = 0, left_file, left_zero;

		r = shuffled(n_windows, seed, &order);
		if (r < 0)
			return r;
		left_file = n_windows * PRESENT_PERCENT / 100 * WINDOW_PAGES;
		left_zero = n_zero;
		for (uint64_t next = 0; at < l->n_pages;) {
			uint64_t n = u64_min(1 + draw(&seed) % EXTENT_PAGES, l->n_pages - at);
			uint64_t what = draw(&seed) % (l->n_pages - at);

			if (what < left_file) {
				n = u64_min(n, WINDOW_PAGES - next % WINDOW_PAGES);
				n = u64_min(n, left_file);
				for (uint64_t k = 0; k < n; k++, next++)
					plan[at++] = KIND_FILE |
						     (order[next / WINDOW_PAGES] * WINDOW_PAGES +
							     next % WINDOW_PAGES);
				left_file -= n;
			} else if (what < left_file + left_zero) {
				n = u64_min(n, left_zero);
				for (uint64_t k = 0; k < n; k++)
					plan[at++] = KIND_ZERO;
				left_zero -= n;
			} else {
				for (uint64_t k = 0; k < n; k++, at++)
					plan[at] = unique_page(guest, at);
			}
		}
	}
	return 0;
}

static int plan(struct layout *l, const char *name)
{
	if (strcmp(name, "sparse") == 0)
		return plan_runs(l, 16, 1);
	if (strcmp(name, "scattered") == 0)
		return plan_runs(l, 2, 1);
	if (strcmp(name, "runs64") == 0)
		return plan_runs(l, 128, 64);
	if (strcmp(name, "clones") == 0)
		return plan_clones(l);
	if (strcmp(name, "os-image") == 0)
		return plan_os_image(l);
	l->has_prefix = strcmp(name, "shared-prefix") == 0;
	if (strcmp(name, "volatile") == 0)
		l->hot_pages = l->n_pages * 3 / 10;
	return plan_runs(l, 16, 8);
}

static bool is_known(const char *name)
{
	for (const struct layout_kind *k = layout_kinds; k->name; k++)
		if (strcmp(name, k->name) == 0)
			return true;
	return false;
}

int layout_new(
	const char *name, unsigned n_guests, uint64_t n_pages, struct layout **ret, struct error *e)
{
	_cleanup_(layout_freep) struct layout *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return error_set(e, -ENOMEM, "out of memory");
	if (!is_known(name))
		return error_set(e, -EINVAL, "there is no layout '%s'; see --help", name);
	l->n_guests = n_guests;
	l->n_pages = n_pages;
	l->plans = calloc(n_guests * n_pages, sizeof(*l->plans));
	if (!l->plans)
		return error_set(e, -ENOMEM, "out of memory");
	r = plan(l, name);
	if (r < 0)
		return error_set(e, r, "layout %s: %s", name, strerror(-r));
	*ret = TAKE_PTR(l);
	return 0;
}

void layout_free(struct layout *l)
{
	if (!l)
		return;
	free(l->plans);
	free(l->files);
	free(l);
}

static void fill_page(const struct layout *l, uint64_t what, uint64_t *page)
{
	uint64_t state = mix(what);
	size_t word = 0;

	if ((what & KIND_MASK) == KIND_ZERO) {
		memset(page, 0, PAGE_BYTES);
		return;
	}
	if ((what & KIND_MASK) == KIND_FILE) {
		memcpy(page, l->files + (what & ~KIND_MASK) * PAGE_BYTES, PAGE_BYTES);
		return;
	}
	for (; l->has_prefix && word < PREFIX_WORDS; word++)
		page[word] = word + 1;
	for (; word < PAGE_WORDS; word++)
		page[word] = draw(&state);
}

void layout_fill(
	const struct layout *l, unsigned guest, uint64_t first, uint64_t n, uint8_t *buffer)
{
	const uint64_t *what = plan_of(l, guest) + first;

	for (uint64_t i = 0; i < n; i++)
		fill_page(l, what[i], (uint64_t *)(void *)(buffer + i * PAGE_BYTES));
}

uint64_t layout_hot_pages(const struct layout *l)
{
	return l->hot_pages;
}
