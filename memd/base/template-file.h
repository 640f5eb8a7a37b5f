/*
 * The template of clones: the RAM of a snapshot in a memfd that nobody can change any more. Guests
 * map it copy on write, so it must be memory (a file's pages could be lost or changed behind them),
 * and each page that is zero stays a hole.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "memd/base/error.h"

/*
 * Loads the first `bytes` of fd, a snapshot's RAM file, which must be exactly that large (-EINVAL).
 * *ret_memfd is the caller's: sealed against writing, growing and shrinking. An errno of reading and
 * of memfds; *e is set.
 */
int template_file_load(int fd, uint64_t bytes, int *ret_memfd, struct error *e);
/* Whether fd is such a memfd of `bytes`. */
bool template_file_is_sealed(int fd, uint64_t bytes);
/* Memory that it takes. 0 when that cannot be known. */
uint64_t template_file_allocated_bytes(int memfd);
