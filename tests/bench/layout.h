/*
 * What the guests of bench-dedup hold: the content of each page of each guest, by layout. Made so
 * that it is the same for every engine and in every run.
 */
#pragma once

#include <stdint.h>

#include "memd/base/cleanup.h"
#include "memd/base/error.h"

struct layout_kind {
	const char *name;
	const char *what;
};

/* All layouts, ending with a name of NULL. */
extern const struct layout_kind layout_kinds[];

struct layout;

/*
 * n_pages of each of n_guests. -EINVAL for a name that is none; for os-image any errno of reading
 * the machine's files.
 */
int layout_new(const char *name, unsigned n_guests, uint64_t n_pages, struct layout **ret,
	struct error *e);
void layout_free(struct layout *l);
DEFINE_CLEANUP(struct layout *, layout_free)

/* Writes the content of pages [first, first + n) of a guest to buffer. */
void layout_fill(
	const struct layout *l, unsigned guest, uint64_t first, uint64_t n, uint8_t *buffer);
/* Pages at the end of each guest's memory that it rewrites all the time; 0 for most layouts. */
uint64_t layout_hot_pages(const struct layout *l);
