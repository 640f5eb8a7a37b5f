/*
 * Drops what the guest hinted to be free (virtio 1.2, 5.5.6.5), and nothing that it has written
 * since: see hinted.c.
 */
#pragma once

#include "dedup/write-log.h"

struct hinted;

/* A hint: pages [page, page + n) were free when the guest said so. */
struct hinted_range {
	uint64_t page;
	uint64_t n;
};

struct hinted_counts {
	uint64_t dropped_pages; /* had memory or swap, and have none any more */
	uint64_t written_pages; /* had memory, and were written since the log was started: kept */
	uint64_t unsettled_pages; /* kept, since a vCPU could not be asked in time */
};

/* ram and log outlive it. -ENOMEM. */
int hinted_new(struct guest_ram *ram, struct write_log *log, struct hinted **ret);
void hinted_free(struct hinted *h);
DEFINE_CLEANUP(struct hinted *, hinted_free)

/* Starts and stops the log. begin is called before the guest is asked. An errno of the log. */
int hinted_begin(struct hinted *h);
void hinted_end(struct hinted *h);
/*
 * Between begin and end: handles n hints (sorted by this), which lie in RAM and were made since
 * begin. What cannot be dropped stays as it is. *counts is added to.
 */
void hinted_drop(
	struct hinted *h, struct hinted_range *ranges, size_t n, struct hinted_counts *counts);
