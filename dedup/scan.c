/*
 * Candidates, questions, exchanges.
 *
 * DOC: which pages, in which order, and why
 *
 * Zero pages come first: they are known by their first bytes, cost no mapping, and are dropped
 * whatever the pool says. Then pages of a pool's or the template's mapping that were written and hold
 * the old content again: back to it without a new mapping. All others are hashed and offered.
 *
 * KSM takes a page only after it has seen the same checksum twice. Here a page is offered at once
 * when it is new, since a comparison under the freeze decides and not the hash: a page that changes
 * after all costs a lookup and a thaw, not a wrong page. A page that was seen before and has
 * changed since is volatile and waits until two passes agree.
 *
 * Nobody sends a page before somebody else has offered the same hash (hints, pool-hints.h), so a
 * group without equal pages moves no page at all.
 *
 * Mappings are what is scarce (vm.max_map_count): the more are used, the longer a run of
 * neighbouring pages with neighbouring slots must be to be worth one. Runs come about since the
 * pool fills extents in the order of insertion, and each insert, lookup and exchange here goes by
 * ascending page.
 *
 * A window is what is frozen at once: whoever writes one of its pages stands still for as long as
 * the exchange takes. It ends after WINDOW_END_US, whatever is left of it is for the next one, and
 * how many runs go into one (about 10 us each) follows from how long the last ones took, so that
 * little is frozen in vain. A thread that is descheduled in a window would let the writer wait for a
 * time slice of each thread that wants this CPU (seen at a load of 17 on two cores: p99 1.8 ms, at
 * most 54 ms). So it runs at the highest priority of ordinary threads for as long, which memd-vmm
 * has the right to (RLIMIT_NICE); cgroup weights and limits bind it all the same. Then only real
 * time threads, interrupts and a hypervisor below can hold it up (p99 0.25 ms). The distribution is
 * counted.
 */
#include "dedup/scan.h"

#include <sched.h>
#include <sys/resource.h>
#include <stdlib.h>
#include <string.h>

#include "dedup/page-hash.h"
#include "memd/base/clock.h"
#include "memd/base/overflow.h"
#include "memd/base/pagemap.h"

#define WINDOW_RUNS_MIN 4
#define WINDOW_RUNS_MAX 32
#define WINDOW_END_US	150
#define WINDOW_SHORT_US (WINDOW_END_US / 2) /* then the next one may be larger */
#define NICE_FROZEN	(-20)

int scan_new(struct guest_ram *ram, uint64_t mappings_max, struct scan **ret)
{
	_cleanup_(scan_freep) struct scan *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->ram = ram;
	s->mappings_max = mappings_max;
	s->window_runs = WINDOW_RUNS_MIN;
	s->nice = getpriority(PRIO_PROCESS, 0);
	s->checksums = calloc(guest_ram_pages(ram), sizeof(*s->checksums));
	s->files = pool_files_new();
	if (!s->checksums || !s->files)
		return -ENOMEM;
	*ret = TAKE_PTR(s);
	return 0;
}

void scan_free(struct scan *s)
{
	if (!s)
		return;
	pool_client_free(s->pool);
	pool_files_free(s->files);
	free(s->checksums);
	free(s);
}

void scan_set_pool(struct scan *s, struct pool_client *pool)
{
	if (s->pool)
		guest_ram_orphan_slots(s->ram);
	pool_client_free(s->pool);
	s->pool = pool;
	s->stats.pool_attached = pool ? 1 : 0;
}

/*
 * After an answer that was an error: the pool closes its end with ours, and takes all references
 * back.
 */
static void lose_pool(struct scan *s)
{
	s->n_unwanted = 0;
	for (size_t i = 0; i < s->n; i++)
		if (s->candidates[i].fate != SCAN_DROP)
			s->candidates[i].fate = SCAN_LEAVE;
	scan_set_pool(s, NULL);
}

static bool has_file(void *context, uint32_t slot)
{
	return pool_client_has_file(context, slot);
}

/*
 * What is mapped of files that the pool has taken is held again. Whoever drops such a page meanwhile
 * notes it for release, which goes out after all this.
 */
static int restore(struct scan *s, struct pool_client *pool)
{
	int r = pool_client_restore_files(pool);

	for (uint64_t chunk = 0; r == 0 && chunk < guest_ram_pages(s->ram) / CHUNK_PAGES; chunk++) {
		size_t n = guest_ram_restore_slots(s->ram, chunk, has_file, pool, s->slots);

		if (n)
			r = pool_client_restore(pool, s->slots, n);
	}
	return r == 0 ? pool_client_restore_end(pool) : r;
}

int scan_join_pool(struct scan *s, int fd, int pidfd)
{
	struct pool_client *pool;
	int r;

	scan_set_pool(s, NULL);
	r = pool_client_new(fd, pidfd, (uint32_t)guest_ram_pages(s->ram), s->files, &pool);
	if (r < 0)
		return r;
	r = restore(s, pool);
	scan_set_pool(s, pool);
	if (r < 0)
		lose_pool(s);
	return r;
}

static void send_unwanted(struct scan *s)
{
	if (s->pool && pool_client_release(s->pool, s->unwanted, s->n_unwanted) < 0)
		lose_pool(s);
	s->n_unwanted = 0;
}

/*
 * At most once a candidate, so there is always room; sent after the exchange, since pages may be
 * frozen now.
 */
static void give_back(struct scan *s, uint32_t slot)
{
	s->unwanted[s->n_unwanted++] = slot;
}

static void send_released(struct scan *s)
{
	size_t n;

	send_unwanted(s);
	while (s->pool &&
		(n = guest_ram_take_released(s->ram, s->unwanted, ARRAY_SIZE(s->unwanted)))) {
		s->n_unwanted = n;
		send_unwanted(s);
	}
}

static void add(struct scan *s, uint64_t page, enum scan_fate fate, uint64_t hash)
{
	s->changes += fate != SCAN_OFFER;
	s->candidates[s->n++] =
		(struct scan_candidate){.page = (uint32_t)page, .fate = fate, .hash = hash};
}

/*
 * Present, of nobody's file, and not the kernel's zero page. Anything else is not read: it would
 * come in from swap, or be made.
 */
static bool is_private(uint64_t entry)
{
	const uint64_t must = PAGEMAP_PRESENT | PAGEMAP_EXCLUSIVE;

	return (entry & (must | PAGEMAP_FILE)) == must;
}

/* Whether a page that was written in a file mapping holds what the file has there. */
static bool equals_file(const struct scan *s, uint64_t page)
{
	uint32_t slot;
	uint64_t offset;
	const uint8_t *shared = guest_ram_template_page(s->ram, page);
	int fd;

	if (shared)
		return page_equal(guest_ram_page_ptr(s->ram, page), shared);
	if (!s->pool || !freeze_slot_of(s->ram, page, &slot))
		return false;
	shared = pool_client_slot(s->pool, slot, &fd, &offset);
	return shared && page_equal(guest_ram_page_ptr(s->ram, page), shared);
}

static void look_at_page(struct scan *s, uint64_t page, enum scanner_mode mode)
{
	const uint8_t *p = guest_ram_page_ptr(s->ram, page);
	uint16_t before = s->checksums[page], checksum;
	uint32_t slot;
	uint64_t hash;

	if (page_is_zero(p)) {
		add(s, page, SCAN_DROP, 0);
		return;
	}
	if (mode != SCANNER_SHARE)
		return;
	if (equals_file(s, page)) {
		add(s, page, SCAN_RESTORE, 0);
		return;
	}
	if (!s->pool)
		return;
	hash = page_hash(p);
	s->stats.pages_hashed++;
	checksum = (uint16_t)(hash >> 48) ? (uint16_t)(hash >> 48) : 1;
	s->checksums[page] = checksum;
	s->changes += before != checksum;
	if (before == 0 && freeze_slot_of(s->ram, page, &slot))
		s->stats.pages_broken++; /* since it was mapped, so it is not new but written */
	else if (before == 0 || before == checksum)
		add(s, page, SCAN_OFFER, hash);
}

static void look_at_chunk(struct scan *s, uint64_t first, enum scanner_mode mode)
{
	uint64_t entries[CHUNK_PAGES];
	uint16_t pages[CHUNK_PAGES];
	size_t n = 0;

	if (guest_ram_pagemap(s->ram, first, CHUNK_PAGES, entries) < 0)
		return;
	for (uint16_t i = 0; i < CHUNK_PAGES; i++)
		if (is_private(entries[i]))
			pages[n++] = i;
	for (size_t i = 0; i < n; i++) {
		if (i + 1 < n)
			page_prefetch(guest_ram_page_ptr(s->ram, first + pages[i + 1]));
		look_at_page(s, first + pages[i], mode);
	}
}

/* Sends candidates [i, i + n), which the pool wants, and notes where they are now. */
static int insert(struct scan *s, struct scan_candidate *const *wanted, size_t n)
{
	uint32_t slots[POOL_INSERT_MAX];
	int r;

	for (size_t i = 0; i < n; i++)
		page_copy(pool_client_insert_page(s->pool, i),
			guest_ram_page_ptr(s->ram, wanted[i]->page));
	r = pool_client_insert(s->pool, n, slots);
	for (size_t i = 0; r == 0 && i < n; i++)
		if (slots[i] != POOL_SLOT_NONE) {
			wanted[i]->fate = SCAN_MAP;
			wanted[i]->slot = slots[i];
			s->stats.pages_inserted++;
		}
	return r;
}

/* The shortest run of pages that is worth up to two more mappings. */
static size_t run_length_min(const struct scan *s)
{
	uint64_t used = guest_ram_mappings(s->ram), max = s->mappings_max;

	if (used + 2 * WINDOW_RUNS_MAX > max)
		return SIZE_MAX;
	if (used < max / 2)
		return 1;
	return used < max / 4 * 3 ? 4 : used < max / 8 * 7 ? 16 : 64;
}

/* Asks for all that is offered, and inserts what somebody else has offered, too. */
static int ask_pool(struct scan *s)
{
	const bool can_map = run_length_min(s) != SIZE_MAX;
	struct scan_candidate *wanted[POOL_INSERT_MAX];
	size_t n = 0, n_wanted = 0;
	int r;

	for (size_t i = 0; i < s->n; i++)
		if (s->candidates[i].fate == SCAN_OFFER)
			s->queries[n++] = (struct pool_lookup){
				.hash = s->candidates[i].hash, .page = s->candidates[i].page};
	if (n == 0)
		return 0;
	r = pool_client_lookup(s->pool, s->queries, n, s->slots);
	for (size_t i = 0, j = 0; r == 0 && i < s->n; i++) {
		struct scan_candidate *c = &s->candidates[i];
		uint32_t slot;

		if (c->fate != SCAN_OFFER)
			continue;
		slot = s->slots[j++];
		c->fate = SCAN_LEAVE;
		if (slot == POOL_SLOT_HINTED && can_map) {
			wanted[n_wanted++] = c;
		} else if (slot < POOL_SLOT_HINTED) {
			c->fate = SCAN_MAP;
			c->slot = slot;
		}
		if (n_wanted == POOL_INSERT_MAX) {
			r = insert(s, wanted, n_wanted);
			n_wanted = 0;
		}
	}
	if (r == 0 && n_wanted)
		r = insert(s, wanted, n_wanted);
	return r;
}

/* How many candidates from i on are to be exchanged by one call, before end. */
static size_t run_length(const struct scan *s, size_t i, size_t end)
{
	const struct scan_candidate *c = &s->candidates[i];
	size_t n = 1;

	while (i + n < end && c[n].page == c->page + n && c[n].fate == c->fate &&
		(c->fate != SCAN_MAP ||
			(c[n].slot == c->slot + n && c[n].slot % POOL_FILE_PAGES != 0)))
		n++;
	return n;
}

/*
 * Whether all that can be done with a run is too dear: it would cost mappings that there are not.
 */
static bool is_too_short(
	const struct scan *s, const struct scan_candidate *c, size_t n, size_t shortest)
{
	if (c->fate == SCAN_DROP) /* only in a file mapping does a hole need one of its own */
		return shortest == SIZE_MAX && freeze_is_file(s->ram, c->page);
	return c->fate == SCAN_MAP && n < shortest;
}

/* Takes candidates [i, i + n) out of consideration. */
static void leave(struct scan *s, size_t i, size_t n)
{
	for (size_t j = i; j < i + n; j++) {
		if (s->candidates[j].fate == SCAN_MAP)
			give_back(s, s->candidates[j].slot);
		s->candidates[j].fate = SCAN_LEAVE;
	}
}

/* Under the freeze: whether the page is what it looked like. */
static bool still_holds(const struct scan *s, const struct scan_candidate *c)
{
	const uint8_t *p = guest_ram_page_ptr(s->ram, c->page), *shared;
	uint64_t offset;
	int fd;

	switch (c->fate) {
	case SCAN_DROP:
		return page_is_zero(p);
	case SCAN_RESTORE:
		return equals_file(s, c->page);
	case SCAN_MAP:
		shared = pool_client_slot(s->pool, c->slot, &fd, &offset);
		return shared && page_equal(p, shared);
	default:
		return false;
	}
}

static int exchange_run(struct scan *s, size_t i, size_t n)
{
	const struct scan_candidate *c = &s->candidates[i];
	unsigned first = c->page % CHUNK_PAGES;
	uint64_t offset;
	int fd, r;

	switch (c->fate) {
	case SCAN_DROP:
		r = freeze_drop(&s->freeze, first, (unsigned)n);
		s->stats.pages_dropped += r == 0 ? n : 0;
		return r;
	case SCAN_RESTORE:
		r = freeze_restore(&s->freeze, first, (unsigned)n);
		s->stats.pages_broken += r == 0 ? n : 0;
		s->stats.pages_mapped += r == 0 ? n : 0;
		return r;
	case SCAN_MAP:
		if (!pool_client_slot(s->pool, c->slot, &fd, &offset))
			return -EINVAL;
		r = freeze_map(&s->freeze, first, (unsigned)n, fd, offset, c->slot);
		if (r == 0)
			memset(&s->checksums[c->page], 0, n * sizeof(*s->checksums));
		s->stats.pages_mapped += r == 0 ? n : 0;
		return r;
	default:
		return 0;
	}
}

/*
 * What was chosen of [begin, end) is frozen: exchanges it in runs of what still holds, until
 * end_us. Returns how far it came.
 */
static size_t exchange_frozen(struct scan *s, size_t begin, size_t end, uint64_t end_us)
{
	size_t i, n;

	for (i = begin; i < end; i += n) {
		size_t longest = run_length(s, i, end);

		if (i > begin && clock_monotonic_us() >= end_us)
			break;
		for (n = 0; n < longest; n++) {
			const struct scan_candidate *c = &s->candidates[i + n];

			if (!freeze_is_frozen(&s->freeze, c->page % CHUNK_PAGES) ||
				!still_holds(s, c))
				break;
		}
		if (n && exchange_run(s, i, n) == 0)
			continue;
		if (s->candidates[i].fate != SCAN_LEAVE)
			s->stats.pages_thawed += n ? n : 1;
		n = n ? n : 1;
		leave(s, i, n);
	}
	return i;
}

/*
 * Chooses runs for one window: candidates from begin on, all before end of the same chunk. Returns
 * where it ends.
 */
static size_t choose_window(
	struct scan *s, size_t begin, size_t end, uint64_t ret_wanted[FREEZE_WORDS])
{
	size_t shortest = run_length_min(s), runs = 0, i, n;

	memset(ret_wanted, 0, FREEZE_WORDS * sizeof(*ret_wanted));
	for (i = begin, n = 0; i < end; i += n) {
		n = run_length(s, i, end);
		if (is_too_short(s, &s->candidates[i], n, shortest))
			leave(s, i, n);
		if (s->candidates[i].fate == SCAN_LEAVE)
			continue;
		if (runs++ == s->window_runs)
			break;
		for (size_t j = i; j < i + n; j++) {
			unsigned page = s->candidates[j].page % CHUNK_PAGES;

			ret_wanted[page / 64] |= UINT64_C(1) << (page % 64);
		}
	}
	return i;
}

/* A window that was long only since the thread was descheduled is no reason for smaller ones. */
static void resize_window(struct scan *s, uint64_t cpu_us)
{
	if (cpu_us > WINDOW_END_US)
		s->window_runs = (unsigned)u64_max(s->window_runs / 2, WINDOW_RUNS_MIN);
	else if (cpu_us < WINDOW_SHORT_US)
		s->window_runs = (unsigned)u64_min(s->window_runs + 1, WINDOW_RUNS_MAX);
}

/* One window from begin on. Returns where the next one begins. */
static size_t exchange_window(struct scan *s, size_t begin, size_t end)
{
	const uint64_t chunk_page = s->candidates[begin].page;
	uint64_t wanted[FREEZE_WORDS], start_us, cpu_us;
	size_t chosen = choose_window(s, begin, end, wanted), done;
	bool any = false;

	for (unsigned w = 0; w < FREEZE_WORDS; w++)
		any |= wanted[w] != 0;
	if (!any)
		return chosen;
	if (freeze_begin(&s->freeze, s->ram, chunk_page) < 0) {
		leave(s, begin, chosen - begin);
		return chosen;
	}
	setpriority(PRIO_PROCESS, 0, NICE_FROZEN); /* without the right to it, as it is */
	cpu_us = clock_thread_cpu_us();
	start_us = clock_monotonic_us();
	freeze_pages(&s->freeze, wanted);
	for (unsigned w = 0; w < FREEZE_WORDS; w++)
		s->stats.pages_frozen += (uint64_t)__builtin_popcountll(s->freeze.frozen[w]);
	done = exchange_frozen(s, begin, chosen, start_us + WINDOW_END_US);
	freeze_end(&s->freeze);
	wait_histogram_add(&s->stats.frozen, clock_monotonic_us() - start_us);
	resize_window(s, clock_thread_cpu_us() - cpu_us);
	setpriority(PRIO_PROCESS, 0, s->nice);
	return done;
}

static void exchange_all(struct scan *s)
{
	for (size_t begin = 0, end; begin < s->n; begin = end) {
		uint64_t chunk = s->candidates[begin].page / CHUNK_PAGES;

		for (end = begin + 1; end < s->n && s->candidates[end].page / CHUNK_PAGES == chunk;)
			end++;
		for (size_t i = begin; i < end;)
			i = exchange_window(s, i, end);
	}
}

static void finish_batch(struct scan *s)
{
	if (s->pool && ask_pool(s) < 0)
		lose_pool(s);
	exchange_all(s);
	send_released(s);
	s->n = 0;
}

void scan_pages(struct scan *s, uint64_t page, uint64_t n, enum scanner_mode mode)
{
	for (uint64_t first = page; first < page + n; first += CHUNK_PAGES)
		look_at_chunk(s, first, mode);
	finish_batch(s);
}

static int by_page(const void *a, const void *b)
{
	const struct pool_notify *p = a, *q = b;

	return p->page < q->page ? -1 : p->page > q->page;
}

size_t scan_notified(struct scan *s)
{
	uint64_t entries[CHUNK_PAGES], chunk = UINT64_MAX;
	size_t n;

	if (!s->pool)
		return 0;
	if (pool_client_poll(s->pool) < 0) {
		lose_pool(s);
		return 0;
	}
	n = pool_client_take_notify(s->pool, s->notify, ARRAY_SIZE(s->notify));
	qsort(s->notify, n, sizeof(*s->notify), by_page);
	for (size_t i = 0; i < n; i++) {
		uint32_t page = s->notify[i].page;

		if (page >= guest_ram_pages(s->ram) || (i > 0 && page == s->notify[i - 1].page))
			continue;
		if (page / CHUNK_PAGES != chunk) {
			chunk = page / CHUNK_PAGES;
			if (guest_ram_pagemap(s->ram, chunk * CHUNK_PAGES, CHUNK_PAGES, entries) <
				0)
				memset(entries, 0, sizeof(entries));
		}
		if (is_private(entries[page % CHUNK_PAGES]))
			add(s, page, SCAN_OFFER, s->notify[i].hash);
	}
	finish_batch(s);
	return n;
}
