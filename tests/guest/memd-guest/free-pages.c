/* See free-pages.h. */
#include "tests/guest/memd-guest/free-pages.h"
#include "tests/guest/memd-guest/memory.h"

static struct page_stack given_back;
static uint64_t next_unused, end_unused;

void page_stack_init(struct page_stack *s, uint64_t capacity)
{
	s->items = memory_alloc(capacity * sizeof(*s->items));
	s->n = 0;
}

void page_stack_push(struct page_stack *s, uint32_t page)
{
	s->items[s->n++] = page;
}

void free_pages_init(uint64_t capacity)
{
	page_stack_init(&given_back, capacity);
}

void free_pages_set(uint64_t first, uint64_t n)
{
	next_unused = first;
	end_unused = first + n;
}

bool free_pages_take(uint32_t *ret_page)
{
	if (given_back.n)
		*ret_page = given_back.items[--given_back.n];
	else if (next_unused < end_unused)
		*ret_page = (uint32_t)next_unused++;
	else
		return false;
	return true;
}

void free_pages_give(uint32_t page)
{
	page_stack_push(&given_back, page);
}

uint64_t free_pages_count(void)
{
	return given_back.n + (end_unused - next_unused);
}
