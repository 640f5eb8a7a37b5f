/*
 * The reclaim ladder of one guest: which mechanism is asked first. Pure.
 *
 * DOC: ordered by what it cost
 *
 * A mechanism's price is what it cost lately to have a page from it: the work of freeing it, and the
 * guest's waiting for those that came back, each in microseconds, over the pages freed. Paging is
 * cheap for memory that is cold and dear for a working set; a balloon is nearly free while the guest
 * has free pages, and dear once it makes the guest swap. So the order is each guest's own.
 *
 * It begins with the fixed order of ESX (sharing, balloon, paging), as prices that count like
 * LADDER_PRIOR_PAGES pages, so that a few pages do not turn it over; what was measured is halved each
 * LADDER_HALF_LIFE_US, so that it turns again when the guest changes. Mechanisms whose prices are
 * within a quarter of each other stay in the fixed order.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum ladder_rung {
	LADDER_SHARE,
	LADDER_BALLOON,
	LADDER_PAGE_OUT,
	LADDER_RUNGS,
};

#define LADDER_PRIOR_PAGES  4096
#define LADDER_HALF_LIFE_US UINT64_C(60000000)

/* Zero it; then ladder_init. */
struct ladder {
	struct {
		uint64_t pages; /* freed */
		uint64_t free_us; /* that it took */
		uint64_t back_us; /* the guest waited for those that came back */
	} rungs[LADDER_RUNGS];
	uint64_t halved_us;
	bool fixed; /* measured all the same, but the order stays */
};

void ladder_init(struct ladder *l, uint64_t now_us);
/* pages were freed by that mechanism, and it took so long. */
void ladder_note_freed(struct ladder *l, enum ladder_rung rung, uint64_t pages, uint64_t us);
/* The guest waited so long for what that mechanism had taken. */
void ladder_note_back(struct ladder *l, enum ladder_rung rung, uint64_t us);
/* Forgets, once for each half-life that has passed. */
void ladder_age(struct ladder *l, uint64_t now_us);
/* What a page that was freed cost, in nanoseconds: freeing it, and waiting for what came back. */
uint64_t ladder_free_ns(const struct ladder *l, enum ladder_rung rung);
uint64_t ladder_back_ns(const struct ladder *l, enum ladder_rung rung);
/* Its price: the sum. */
uint64_t ladder_price_ns(const struct ladder *l, enum ladder_rung rung);
/* Whether a is to be asked before b. */
bool ladder_before(const struct ladder *l, enum ladder_rung a, enum ladder_rung b);
/* How many mechanisms are asked before that one. */
unsigned ladder_rank(const struct ladder *l, enum ladder_rung rung);
/* "sharing", "balloon", "page-out". */
const char *ladder_rung_name(enum ladder_rung rung);
