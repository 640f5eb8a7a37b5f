/*
 * The write log (write-log.h): one log, several users. Never touches guest memory.
 *
 * DOC: why no write is missed
 *
 * The backend's fetch clears what it returns, so whatever is fetched, for whomever, goes into the
 * bitmap of every user that has the slot started. A bit that a user has not taken stays.
 *
 * Writes of our own are noted in a bitmap of the RAM *before* they are made (guest_ram_wrote), and
 * moved from there by fetch. So of a write that was complete before a fetch began, the note is
 * there. A write may come after its note was fetched: the user has the note all the same. Only
 * write_log_start drops notes, and thus the one of a write that begins just then. Both users can
 * bear that. Hints: the page was a device's buffer when the log started, so the guest can free and
 * hint it only after the device gave it back, that is after the write, which nobody needs then. The
 * scanner: it compares frozen pages, so a page that it takes for unchanged is shared later, not
 * wrongly.
 */
#include "dedup/write-log.h"

#include <stdlib.h>
#include <string.h>

#include "dedup/guest-ram-private.h"
#include "memd/base/overflow.h"

struct write_log {
	struct guest_ram *ram;
	const struct write_log_backend *backend;
	void *context;
	unsigned n_slots;
	struct write_log_slot *slots;

	pthread_mutex_t lock; /* what follows */
	uint8_t *users; /* of each slot: a bit for each user that has it started */
	uint64_t *bits[WRITE_LOG_USERS]; /* by page; NULL until first used */
	uint64_t *fetched; /* as large as the largest slot */
};

void guest_ram_wrote(const struct guest_ram *ram, gpa_t gpa, uint64_t bytes)
{
	uint64_t page, end;

	if (bytes == 0 || !guest_ram_page_of(ram, gpa, &page))
		return;
	end = page + (gpa.v % PAGE_BYTES + bytes + PAGE_BYTES - 1) / PAGE_BYTES;
	for (end = u64_min(end, ram->n_pages); page < end; page++) {
		uint64_t bit = UINT64_C(1) << page % 64;

		if (!(atomic_load(&ram->written[page / 64]) & bit))
			atomic_fetch_or(&ram->written[page / 64], bit);
	}
}

int write_log_new(struct guest_ram *ram, const struct write_log_backend *backend, void *context,
	const struct write_log_slot *slots, unsigned n, struct write_log **ret)
{
	_cleanup_(write_log_freep) struct write_log *l = calloc(1, sizeof(*l));
	uint64_t most = 0;

	if (!l)
		return -ENOMEM;
	pthread_mutex_init(&l->lock, NULL);
	l->ram = ram;
	l->backend = backend;
	l->context = context;
	l->slots = calloc(n, sizeof(*slots));
	l->users = calloc(n, sizeof(*l->users));
	for (unsigned i = 0; i < n; i++)
		most = u64_max(most, slots[i].n_pages);
	l->fetched = calloc(most / 64, sizeof(*l->fetched));
	if (!l->slots || !l->users || !l->fetched)
		return -ENOMEM;
	memcpy(l->slots, slots, n * sizeof(*slots));
	l->n_slots = n;
	*ret = TAKE_PTR(l);
	return 0;
}

void write_log_free(struct write_log *l)
{
	if (!l)
		return;
	for (unsigned slot = 0; slot < l->n_slots; slot++)
		if (l->users[slot])
			l->backend->stop(l->context, slot);
	for (unsigned user = 0; user < WRITE_LOG_USERS; user++)
		free(l->bits[user]);
	free(l->fetched);
	free(l->users);
	free(l->slots);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

/* The slot that page lies in: slots are of about one size, so the guess is near. */
static unsigned slot_of(const struct write_log *l, uint64_t page)
{
	unsigned slot = (unsigned)u64_min(page / l->slots[0].n_pages, l->n_slots - 1);

	while (page < l->slots[slot].first_page)
		slot--;
	while (page >= l->slots[slot].first_page + l->slots[slot].n_pages)
		slot++;
	return slot;
}

/* Our own writes join what the backend said, in l->fetched; then each user gets it. */
static int fetch_slot(struct write_log *l, unsigned slot)
{
	uint64_t first = l->slots[slot].first_page / 64, n = l->slots[slot].n_pages / 64;
	int r = l->backend->fetch(l->context, slot, l->fetched);

	if (r < 0)
		return r;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t word = l->fetched[i];

		if (atomic_load(&l->ram->written[first + i]))
			word |= atomic_exchange(&l->ram->written[first + i], 0);
		if (!word)
			continue;
		for (unsigned user = 0; user < WRITE_LOG_USERS; user++)
			if (l->users[slot] >> user & 1)
				l->bits[user][first + i] |= word;
	}
	return 0;
}

static int start_slot(struct write_log *l, enum write_log_user user, unsigned slot)
{
	const struct write_log_slot *s = &l->slots[slot];
	int r;

	if (l->users[slot]) {
		r = fetch_slot(l, slot);
	} else {
		r = l->backend->start(l->context, slot);
		for (uint64_t i = 0; r == 0 && i < s->n_pages / 64; i++)
			atomic_store(&l->ram->written[s->first_page / 64 + i], 0);
	}
	if (r < 0)
		return r;
	l->users[slot] = (uint8_t)(l->users[slot] | 1U << user);
	memset(l->bits[user] + s->first_page / 64, 0, s->n_pages / 8);
	return 0;
}

static void stop_slot(struct write_log *l, enum write_log_user user, unsigned slot)
{
	if (!(l->users[slot] >> user & 1))
		return;
	l->users[slot] = (uint8_t)(l->users[slot] & ~(1U << user));
	if (!l->users[slot])
		l->backend->stop(l->context, slot);
}

static void stop_slots(struct write_log *l, enum write_log_user user, unsigned slot, unsigned end)
{
	for (; slot < end; slot++)
		stop_slot(l, user, slot);
}

int write_log_start(struct write_log *l, enum write_log_user user, uint64_t page, uint64_t n)
{
	unsigned first = slot_of(l, page), end = slot_of(l, page + n - 1) + 1;
	int r = 0;

	pthread_mutex_lock(&l->lock);
	if (!l->bits[user])
		l->bits[user] = calloc(l->ram->n_pages / 64, sizeof(*l->bits[user]));
	if (!l->bits[user])
		r = -ENOMEM;
	for (unsigned slot = first; r == 0 && slot < end; slot++) {
		r = start_slot(l, user, slot);
		if (r < 0)
			stop_slots(l, user, first, slot);
	}
	pthread_mutex_unlock(&l->lock);
	return r;
}

void write_log_stop(struct write_log *l, enum write_log_user user, uint64_t page, uint64_t n)
{
	pthread_mutex_lock(&l->lock);
	stop_slots(l, user, slot_of(l, page), slot_of(l, page + n - 1) + 1);
	pthread_mutex_unlock(&l->lock);
}

int write_log_settle(struct write_log *l)
{
	return l->backend->settle(l->context);
}

int write_log_fetch(struct write_log *l, uint64_t page, uint64_t *ret_end)
{
	unsigned slot = slot_of(l, page);
	int r;

	pthread_mutex_lock(&l->lock);
	r = fetch_slot(l, slot);
	pthread_mutex_unlock(&l->lock);
	if (r == 0)
		*ret_end = l->slots[slot].first_page + l->slots[slot].n_pages;
	return r;
}

void write_log_read(struct write_log *l, enum write_log_user user, uint64_t page, uint64_t n,
	uint64_t *ret_bits)
{
	pthread_mutex_lock(&l->lock);
	memcpy(ret_bits, l->bits[user] + page / 64, n / 8);
	pthread_mutex_unlock(&l->lock);
}

void write_log_take(struct write_log *l, enum write_log_user user, uint64_t page, uint64_t n,
	uint64_t *ret_bits)
{
	pthread_mutex_lock(&l->lock);
	memcpy(ret_bits, l->bits[user] + page / 64, n / 8);
	memset(l->bits[user] + page / 64, 0, n / 8);
	pthread_mutex_unlock(&l->lock);
}
