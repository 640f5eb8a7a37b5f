/*
 * The guests of bench-dedup: memd-vmm processes with the freestanding guest in its mode "loaded",
 * whose memory is filled with a layout, and the memd-pool they share.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "memd/base/pool-proto.h"
#include "tests/bench/layout.h"
#include "tests/bench/meter.h"
#include "tests/guest/memd-guest/loaded-control.h"
#include "tests/guest/service-run.h"
#include "tests/guest/vmm-run.h"

#define FLEET_GUESTS_MAX 16

struct fleet_guest {
	struct vmm_run *vmm;
	uint64_t loaded_hva, control_hva; /* in the address space of its memd-vmm */
	int mem_fd; /* /proc/PID/mem */
	uint64_t order;
};

struct fleet {
	struct service_run pool;
	int pool_fd; /* for questions; -1: no pool */
	struct ipc_message *message;
	unsigned n_guests;
	struct fleet_guest guests[FLEET_GUESTS_MAX];
};

struct fleet_options {
	const struct layout *layout;
	unsigned n_guests;
	uint64_t n_pages; /* of each */
	bool mergeable; /* all their memory is KSM's */
	uint64_t load_per_s; /* pages each guest verifies a second */
};

/* Starts, fills, and lets the guests take the sums of their pages. Errors are in *e. */
int fleet_start(struct fleet *f, const struct fleet_options *o, struct error *e);
/* {0} is allowed. */
void fleet_done(struct fleet *f);

/* Connects all guests to the pool and sets their scanners. */
int fleet_share(struct fleet *f, uint32_t max_cpu_bp, uint64_t target_time_us, struct error *e);

/* An order to all guests, waited for. *ret_sum: n_pages and ns summed up, counters as they stand. */
int fleet_order(struct fleet *f, enum loaded_verb verb, uint64_t stride, uint64_t offset,
	struct loaded_control *ret_sum);
/* The same to one guest, while the others go about their work. */
int fleet_order_one(struct fleet *f, unsigned guest, enum loaded_verb verb, uint64_t stride,
	uint64_t offset, struct loaded_control *ret);
/* The figures of each guest. */
int fleet_stats(struct fleet *f, struct vmm_stats ret[FLEET_GUESTS_MAX]);
int fleet_pool_stats(struct fleet *f, struct pool_stats *ret);

struct meter_vmm fleet_cpu(const struct fleet *f);
uint64_t fleet_pool_cpu_us(const struct fleet *f);
/* By the processes' counters. */
uint64_t fleet_anonymous_pages(const struct fleet *f);

/* By the page tables, exactly; what is shared with others counts in parts in pss. */
struct fleet_memory {
	uint64_t anonymous_bytes, pss_anon_bytes, page_table_bytes;
};
struct fleet_memory fleet_memory(const struct fleet *f);
