/*
 * A driver of virtio-blk (virtio 1.2, 5.2) and its work: each of up to DISK_QUEUES queues has a
 * piece of the disk and as many pages of memory. It writes a new generation of its piece, then
 * reads it back several times, into pages that hold zeros or what is the same in all guests at that
 * moment, so that the host is tempted to take them away under the read; after each read every word
 * is verified. Boot processor only.
 *
 * Command line: disk=1 for that work; disk_bench=seq or random for reads as fast as they go, for
 * disk_bench_ms (default 1000), of what is on the disk already: one line, then power off.
 */
#pragma once

#include "tests/guest/memd-guest/area.h"

/* Ring 3, while memory_alloc works. Stops the guest when the work is wanted and there is no disk. */
void disk_init(void);
/* One step for each queue. Returns whether there is more to do at once. */
bool disk_service(struct area_counters *c, uint64_t now_ns);

/* Blocks of 4 KiB that came from the disk and were verified, and that went to it. */
uint64_t disk_read_blocks(void);
uint64_t disk_written_blocks(void);
