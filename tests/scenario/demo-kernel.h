/*
 * What the kernel says about a memd and all that it started: read from /proc and /sys only, without a word
 * from memd, so that its ledger can be held against it.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "memd/base/error.h"

struct kernel_figures {
	unsigned n_processes;
	uint64_t
		process_bytes; /* private and file memory and page tables of memd and its children */
	uint64_t pool_bytes; /* blocks of the memfds that its children own */
	uint64_t swapped_bytes; /* of its children, in swap */
	uint64_t
		occupied_bytes; /* what that takes of RAM in zram: by its part of what is swapped there */
};

/*
 * Of memd and its children. A child that ends meanwhile is left out.
 * Any errno of reading; *e names the file.
 */
int kernel_figures_read(pid_t memd_pid, struct kernel_figures *ret, struct error *e);
