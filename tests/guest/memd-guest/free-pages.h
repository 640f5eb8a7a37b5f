/*
 * Pages that no area holds: the scratch area and the balloon take from here and give back. Boot
 * processor only. A page is named by its number in memory.h, 32 bits: 16 TiB.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* A stack of page numbers, with room for every page that was free at first. */
struct page_stack {
	uint32_t *items;
	uint64_t n;
};

/* Room for capacity pages. Ring 3, while memory_alloc still works. */
void page_stack_init(struct page_stack *s, uint64_t capacity);
void page_stack_push(struct page_stack *s, uint32_t page);

/*
 * Room for all pages, as page_stack_init; then pages first .. first + n - 1, never used yet, are
 * free.
 */
void free_pages_init(uint64_t capacity);
void free_pages_set(uint64_t first, uint64_t n);

/*
 * Pages given back come first (last in, first out), then those never used, ascending. false: none
 * left.
 */
bool free_pages_take(uint32_t *ret_page);
void free_pages_give(uint32_t page);
uint64_t free_pages_count(void);
