/*
 * Which guest pages were written since a moment: by the guest, as KVM's dirty log says (the
 * backend, kvm-glue/dirty-log.c), or by this process (guest_ram_wrote). Several users read the one
 * log, each with a moment of its own; a slot of memory is logged only while somebody wants it,
 * since logging costs the guest a fault at the first write of each page.
 */
#pragma once

#include "dedup/guest-ram.h"

enum write_log_user {
	WRITE_LOG_HINTS, /* hinted.c */
	WRITE_LOG_SCANNER,
	WRITE_LOG_USERS,
};

/* Page numbers [first_page, first_page + n_pages), whole 2 MiB chunks. */
struct write_log_slot {
	uint64_t first_page;
	uint64_t n_pages;
};

/*
 * start: all writes after it returned are logged. Negative errno. stop undoes it.
 * fetch: the pages written since start or the last fetch, a bit each. Negative errno.
 * settle: returns when every write that a vCPU had made before the call is in what fetch says
 *   afterwards; -ETIMEDOUT when a vCPU cannot be had.
 */
struct write_log_backend {
	int (*start)(void *context, unsigned slot);
	void (*stop)(void *context, unsigned slot);
	int (*fetch)(void *context, unsigned slot, uint64_t *ret_bits);
	int (*settle)(void *context);
};

struct write_log;

/* slots ascend and cover all of ram, which outlives the log, as the context does. -ENOMEM. */
int write_log_new(struct guest_ram *ram, const struct write_log_backend *backend, void *context,
	const struct write_log_slot *slots, unsigned n, struct write_log **ret);
/* Stops what is still logged. NULL is allowed. */
void write_log_free(struct write_log *l);
DEFINE_CLEANUP(struct write_log *, write_log_free)

/*
 * From now on the user sees writes to the slots that [page, page + n) lies in, and none of before.
 * An errno of the backend: nothing has changed then for slots that were not logged before.
 */
int write_log_start(struct write_log *l, enum write_log_user user, uint64_t page, uint64_t n);
void write_log_stop(struct write_log *l, enum write_log_user user, uint64_t page, uint64_t n);

int write_log_settle(struct write_log *l);
/* Takes over what was written so far in the slot of page, which ends before *ret_end. */
int write_log_fetch(struct write_log *l, uint64_t page, uint64_t *ret_end);
/*
 * What was fetched for the user since its start, or since it took it: bit i of ret_bits stands for
 * page + i. page and n are multiples of 64. read leaves it there, take forgets it.
 */
void write_log_read(struct write_log *l, enum write_log_user user, uint64_t page, uint64_t n,
	uint64_t *ret_bits);
void write_log_take(struct write_log *l, enum write_log_user user, uint64_t page, uint64_t n,
	uint64_t *ret_bits);
