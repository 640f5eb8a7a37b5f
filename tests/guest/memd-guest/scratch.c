/* See scratch.h. */
#include "tests/guest/memd-guest/scratch.h"
#include "tests/guest/memd-guest/balloon.h"
#include "tests/guest/memd-guest/cmdline.h"
#include "tests/guest/memd-guest/memory.h"

#define PAGES_A_STEP 64

static enum {
	SCRATCH_OFF,
	SCRATCH_FILL,
	SCRATCH_HOLD,
	SCRATCH_CHECK, /* verify each page once more, then free all */
	SCRATCH_FREED,
} state;
static struct page_stack pages;
static uint64_t wanted_pages, hold_ns, until_ns, n_checked;
static uint64_t rounds, round;
static bool scatter;

void scratch_init(uint64_t capacity)
{
	wanted_pages = cmdline_number("scratch_mib", 0) * GUEST_MIB / GUEST_PAGE;
	hold_ns = cmdline_number("scratch_s", 5) * NS_PER_S;
	rounds = cmdline_number("scratch_rounds", 1);
	scatter = cmdline_number("scratch_scatter", 0);
	if (!wanted_pages || !rounds)
		return;
	page_stack_init(&pages, capacity);
	state = SCRATCH_FILL;
}

static uint32_t generation(void)
{
	return (uint32_t)(round * GENERATION_ROUND);
}

/* Fewer pages than wanted are enough: the balloon may have the others. */
static bool fill(struct area_counters *c)
{
	for (unsigned i = 0; i < PAGES_A_STEP; i++) {
		uint32_t page;

		if (pages.n == wanted_pages || !free_pages_take(&page))
			return true;
		area_write(c, AREA_SCRATCH, pages.n, memory_page(page), generation());
		page_stack_push(&pages, page);
	}
	return false;
}

static bool check(struct area_counters *c)
{
	for (unsigned i = 0; i < PAGES_A_STEP && n_checked < pages.n; i++, n_checked++)
		area_verify(c, AREA_SCRATCH, n_checked, memory_page(pages.items[n_checked]),
			generation());
	return n_checked == pages.n;
}

/* Even pages first, then odd ones: no neighbours are taken together. */
static void free_scattered(void)
{
	for (unsigned odd = 0; odd < 2; odd++) {
		for (uint64_t i = odd; i < pages.n; i += 2)
			free_pages_give(pages.items[i]);
	}
	pages.n = 0;
}

static void enter(int next, uint64_t now_ns)
{
	state = next;
	until_ns = now_ns + hold_ns;
}

bool scratch_service(struct area_counters *c, uint64_t now_ns)
{
	if (state == SCRATCH_FILL && fill(c)) {
		enter(SCRATCH_HOLD, now_ns);
	} else if (state == SCRATCH_HOLD && now_ns >= until_ns) {
		n_checked = 0;
		enter(SCRATCH_CHECK, now_ns);
	} else if (state == SCRATCH_CHECK && check(c)) {
		if (scatter)
			free_scattered();
		else
			balloon_report_free(&pages);
		round++;
		enter(round < rounds ? SCRATCH_FREED : SCRATCH_OFF, now_ns);
	} else if (state == SCRATCH_FREED && now_ns >= until_ns && !balloon_reports()) {
		enter(SCRATCH_FILL, now_ns);
	}
	return state == SCRATCH_FILL || state == SCRATCH_CHECK || balloon_reports();
}
