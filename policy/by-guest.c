/* Records by guest; see by-guest.h. */
#include "policy/by-guest.h"

#include <stdlib.h>
#include <string.h>

static int make_room(struct by_guest *b, size_t n)
{
	void *larger;

	if (n <= b->n_room)
		return 0;
	larger = reallocarray(b->records, n, b->record_bytes);
	if (!larger)
		return -1;
	b->records = larger;
	larger = reallocarray(b->spare, n, b->record_bytes);
	if (!larger)
		return -1;
	b->spare = larger;
	b->n_room = n;
	return 0;
}

static void *at(const struct by_guest *b, void *records, size_t i)
{
	return (char *)records + i * b->record_bytes;
}

static uint64_t id_at(const struct by_guest *b, size_t i)
{
	uint64_t id;

	memcpy(&id, at(b, b->records, i), sizeof(id));
	return id;
}

void *by_guest_match(struct by_guest *b, size_t n, uint64_t (*id_of)(const void *guests, size_t i),
	const void *guests)
{
	size_t old = 0;
	void *former;

	if (make_room(b, n) < 0)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		uint64_t id = id_of(guests, i);
		char *record = at(b, b->spare, i);

		while (old < b->n && id_at(b, old) < id)
			old++;
		if (old < b->n && id_at(b, old) == id) {
			memcpy(record, at(b, b->records, old), b->record_bytes);
		} else {
			memset(record, 0, b->record_bytes);
			memcpy(record, &id, sizeof(id));
		}
	}
	former = b->records;
	b->records = b->spare;
	b->spare = former;
	b->n = n;
	return b->records;
}

void by_guest_done(struct by_guest *b)
{
	free(b->records);
	free(b->spare);
	*b = (struct by_guest){.record_bytes = b->record_bytes};
}
