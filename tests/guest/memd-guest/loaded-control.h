/*
 * The page by which a program on the host orders the guest of loaded.c about: the same struct at
 * both ends. The host writes the arguments, then `order`; the guest answers, then copies `order`
 * to `done`.
 */
#pragma once

#include <stdint.h>

enum loaded_verb {
	LOADED_TAKE_SUMS = 1, /* the memory holds what it shall hold: from now on it is verified */
	LOADED_WRITE = 2, /* changes one word of each stride-th page, from offset on */
	LOADED_VERIFY = 3, /* every page, once, at full speed */
};

struct loaded_control {
	uint64_t order; /* counts the orders; 0: none yet */
	uint64_t verb; /* enum loaded_verb */
	uint64_t stride, offset; /* pages, of LOADED_WRITE; stride > 0 */
	/* the guest's */
	uint64_t done; /* the last order that was carried out */
	uint64_t n_pages; /* that order's pages */
	uint64_t ns; /* what LOADED_WRITE took, only the writes */
	uint64_t verified, corrupt, written; /* pages, since the start */
};
