/*
 * Memory that is hinted free (virtio 1.2, 5.5.6.5), by a driver that, as Linux may, does not wait
 * for the device before it uses hinted blocks again. Each block belongs to one processor, which
 * writes it, verifies it, frees it, and writes it again as soon as it is hinted.
 *
 * Command line: hint_mib (0), hint_block_kib (256), hint_reuse_pct (of hinted blocks that are used
 * again at once, the others after the run; default 50), hint_run_ms (a run goes on so long while
 * there is something to hint; default 200).
 */
#pragma once

#include "tests/guest/memd-guest/area.h"
#include "tests/guest/memd-guest/virtio.h"

/* While memory_alloc works. */
void hints_init(unsigned n_cpus);
/* Whether there is anything to hint. */
bool hints_wanted(void);
/* Its pages begin at page `first`; returns the page behind them. */
uint64_t hints_place(uint64_t first);
/* The queue of hints, of the balloon device d; boot processor. */
bool hints_init_queue(struct virtio_device *d, uint16_t index);

/* Boot processor, often: one step of the driver. Returns whether there is more to do at once. */
bool hints_service(uint64_t now_ns);
/* Each processor, often: one step with its blocks. Returns whether there is more to do at once. */
bool hints_work(unsigned cpu, struct area_counters *c);

/* Pages hinted since the start, and blocks that are free and not hinted now. */
uint64_t hints_hinted_pages(void);
uint64_t hints_free_blocks(void);
