/*
 * What is remembered about each guest from one tick to the next: records in the order of the
 * guests' ids, so that the i-th belongs to the i-th guest of the view. A guest that is new has a
 * record of zeros, that of one that is gone is forgotten.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct by_guest {
	size_t record_bytes; /* of a record, whose first member is its uint64_t id */
	void *records;
	void *spare; /* for the next match: both have n_room */
	size_t n, n_room;
};

/*
 * The records for n guests, whose ids (ascending) id_of tells. NULL: no memory; what was remembered
 * stays.
 */
void *by_guest_match(struct by_guest *b, size_t n, uint64_t (*id_of)(const void *guests, size_t i),
	const void *guests);
void by_guest_done(struct by_guest *b);
