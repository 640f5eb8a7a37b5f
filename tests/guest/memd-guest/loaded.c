/* See loaded.h. */
#include "tests/guest/memd-guest/loaded.h"
#include "tests/guest/memd-guest/cmdline.h"
#include "tests/guest/memd-guest/cpu.h"
#include "tests/guest/memd-guest/line.h"
#include "tests/guest/memd-guest/loaded-control.h"
#include "tests/guest/memd-guest/memory.h"
#include "tests/guest/memd-guest/time.h"

#define PAGE_WORDS    (GUEST_PAGE / sizeof(uint64_t))
#define WRITTEN_WORD  256 /* behind what the pages of some layouts have in common */
#define PAGES_A_SLICE 64
#define US_PER_S      1000000

struct pace {
	uint64_t per_s, done, next; /* next: the page whose turn it is */
};

static struct loaded_control *control;
static uint64_t *sums, n_pages;
static struct pace verifying, rewriting;
static uint64_t first_hot;

static uint64_t sum_of(uint64_t i)
{
	const volatile uint64_t *page = memory_page(i);
	uint64_t a = 1, b = 0;

	for (unsigned word = 0; word < PAGE_WORDS; word += 2) {
		a = (a ^ page[word]) * UINT64_C(0x9e3779b97f4a7c15);
		b = (b + page[word + 1]) * UINT64_C(0xd6e8feb86659fd93);
		a ^= a >> 32;
	}
	return a ^ b;
}

static void verify(uint64_t i)
{
	counter_add(&control->verified, 1);
	if (sum_of(i) != sums[i])
		counter_add(&control->corrupt, 1);
}

/* Only the write is timed: it is what waits, and what copies a shared page. */
static void rewrite(uint64_t i, uint64_t *ns)
{
	volatile uint64_t *page = memory_page(i);
	uint64_t start_ns = time_ns();

	page[WRITTEN_WORD] += UINT64_C(0xa0761d6478bd642f);
	*ns += time_ns() - start_ns;
	counter_add(&control->written, 1);
}

static void write_pages(void)
{
	uint64_t ns = 0, n = 0;

	for (uint64_t i = control->offset; i < n_pages && control->stride;
		i += control->stride, n++)
		rewrite(i, &ns);
	for (uint64_t i = control->offset; i < n_pages && control->stride; i += control->stride)
		sums[i] = sum_of(i);
	control->ns = ns;
	control->n_pages = n;
}

static void carry_out(uint64_t verb)
{
	if (verb == LOADED_WRITE) {
		write_pages();
		return;
	}
	for (uint64_t i = 0; i < n_pages; i++) {
		if (verb == LOADED_TAKE_SUMS)
			sums[i] = sum_of(i);
		else
			verify(i);
	}
	control->n_pages = n_pages;
}

static bool obey(void)
{
	uint64_t order = __atomic_load_n(&control->order, __ATOMIC_ACQUIRE);

	if (order == control->done)
		return false;
	carry_out(control->verb);
	__atomic_store_n(&control->done, order, __ATOMIC_RELEASE);
	return true;
}

/* How many of them are due by now, at most a slice. */
static unsigned due(struct pace *p, uint64_t elapsed_us)
{
	uint64_t n = p->per_s * elapsed_us / US_PER_S - p->done;

	if (n > p->per_s / 10 + PAGES_A_SLICE) { /* what was missed for long is not made up for */
		p->done += n - PAGES_A_SLICE;
		n = PAGES_A_SLICE;
	}
	n = MIN(n, PAGES_A_SLICE);
	p->done += n;
	return (unsigned)n;
}

static uint64_t next_of(struct pace *p, uint64_t first)
{
	if (p->next < first || p->next >= n_pages)
		p->next = first;
	return p->next++;
}

static void work(uint64_t elapsed_us)
{
	uint64_t ns = 0;

	for (unsigned n = due(&verifying, elapsed_us); n; n--)
		verify(next_of(&verifying, 0));
	for (unsigned n = due(&rewriting, elapsed_us); n; n--) {
		uint64_t i = next_of(&rewriting, first_hot);

		rewrite(i, &ns);
		sums[i] = sum_of(i);
	}
}

static void init(void)
{
	struct line line = {0};

	n_pages = cmdline_number("loaded_mib", 0) * GUEST_MIB / GUEST_PAGE;
	first_hot = n_pages -
		    MIN(n_pages - 1, cmdline_number("loaded_hot_mib", 0) * GUEST_MIB / GUEST_PAGE);
	verifying.per_s = cmdline_number("loaded_per_s", 2000);
	rewriting.per_s = cmdline_number("loaded_rewrite_per_s", 0);
	control = memory_alloc(sizeof(*control));
	*control = (struct loaded_control){0};
	sums = memory_alloc(n_pages * sizeof(*sums));
	memory_align_to_chunk();
	if (!n_pages || n_pages > memory_n_pages())
		line_print_and_stop("loaded_mib does not fit");
	line_text(&line, "memd-guest: loaded");
	line_value(&line, "gpa", (uintptr_t)memory_page(0));
	line_value(&line, "control", (uintptr_t)control);
	line_value(&line, "pages", n_pages);
	line_print(&line);
}

void loaded_run(void)
{
	uint64_t start_ns = 0;

	init();
	for (;;) {
		uint64_t now_ns;

		if (obey() && !start_ns)
			start_ns = time_ns();
		now_ns = time_ns();
		if (start_ns)
			work((now_ns - start_ns) / 1000);
		user_syscall(SYS_IDLE, 0, 0, 0);
	}
}
