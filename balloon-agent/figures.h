/*
 * What only the guest's kernel knows, read from its /proc and /sys: memory, pressure, refaults,
 * swap, watermarks, huge pages, OOM kills (Documentation/filesystems/proc.rst,
 * Documentation/accounting/psi.rst). A kernel that lacks something leaves it out.
 *
 * Reads only. Allocates nothing.
 */
#pragma once

#include <stdint.h>

#include "balloon-agent/codec.h"

enum figures_file {
	FIGURES_MEMINFO,
	FIGURES_VMSTAT,
	FIGURES_PRESSURE,
	FIGURES_ZONEINFO,
	FIGURES_OWN, /* /proc/self/statm */
	FIGURES_FILES,
};

/* The files stay open: reading one again costs a third of opening it. */
struct figures {
	int fds[FIGURES_FILES]; /* -1: this kernel has none */
	uint64_t page_bytes;
	/* Zones are many lines and hardly ever change: looked at when this has counted to 0. */
	unsigned zones_in;
	uint64_t watermark[3]; /* min, low, high, in bytes; 0: not known */
};

/*
 * root_fd: the directory that has proc/. -ENOENT, or any errno of openat: there is no
 * proc/meminfo, without which there is nothing to say.
 */
int figures_init(struct figures *f, int root_fd);
void figures_done(struct figures *f);
/* Adds everything to *m. Negative errno of reading proc/meminfo. */
int figures_read(struct figures *f, struct agent_message *m);
