/* See area.h. */
#include "tests/guest/memd-guest/area.h"
#include "tests/guest/memd-guest/cmdline.h"
#include "tests/guest/memd-guest/line.h"
#include "tests/guest/memd-guest/page-content.h"

#define CORRUPT_LINES_MAX 8

static uint64_t seed, common_seed, noise = UINT64_MAX;
static uint64_t n_corrupt_lines;

void area_init(void)
{
	seed = cmdline_number("seed", 0);
	common_seed = cmdline_number("common_seed", 1);
	noise >>= 64 - MIN(cmdline_number("noise_bits", 64), 64);
}

static struct page_content content_of(enum area_kind kind, uint64_t index, uint32_t generation)
{
	uint32_t round = generation / GENERATION_ROUND;
	uint32_t step = generation % GENERATION_ROUND;
	bool own = (kind != AREA_COMMON && kind != AREA_ZERO) || round % 2;
	struct page_content c = {.step = step, .noise = noise};

	if (own || step)
		c.key = c.patch = content_key(seed, kind, index, round);
	c.patch = ~c.patch;
	if (!own && kind == AREA_COMMON)
		c.key = content_key(common_seed, AREA_COMMON, index, 0);
	else if (!own)
		c.key = c.noise = 0;
	return c;
}

void area_write(struct area_counters *c, enum area_kind kind, uint64_t index, uint64_t *page,
	uint32_t generation)
{
	struct page_content content = content_of(kind, index, generation);

	if (content.step)
		content_write_step(page, &content);
	else
		content_write(page, &content);
	counter_add(&c->written, 1);
}

static void describe(enum area_kind kind, uint64_t index, const volatile uint64_t *page,
	uint32_t generation, const struct page_content *c)
{
	struct line line = {0};

	line_text(&line, "memd-guest: corrupt");
	line_hex(&line, "gpa", (uintptr_t)page);
	line_value(&line, "area", kind);
	line_value(&line, "index", index);
	line_value(&line, "generation", generation);
	for (unsigned word = 0; word < CONTENT_WORDS; word++) {
		uint64_t expected = content_word(c, word), found = page[word];

		if (found != expected) {
			line_value(&line, "word", word);
			line_hex(&line, "expected", expected);
			line_hex(&line, "found", found);
			break;
		}
	}
	/* without a word: it was wrong a moment ago and is right now */
	line_print(&line);
}

void area_verify(struct area_counters *c, enum area_kind kind, uint64_t index, const uint64_t *page,
	uint32_t generation)
{
	struct page_content content = content_of(kind, index, generation);

	counter_add(&c->verified, 1);
	if (content_verify(page, &content))
		return;
	counter_add(&c->corrupt, 1);
	if (__atomic_fetch_add(&n_corrupt_lines, 1, __ATOMIC_RELAXED) < CORRUPT_LINES_MAX)
		describe(kind, index, page, generation, &content);
}
