/*
 * What a page's content is: its hash, whether it is zero, whether two are equal. The only place
 * that knows which hash it is. Pages may be written by others meanwhile: the answer is then that of
 * some mixture, and nobody may rely on it unless the page is frozen.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * XXH3, 64 bits, of the 4 KiB at page (8 byte aligned): the hash of pool-proto.h. No security:
 * equal hashes are compared.
 */
uint64_t page_hash(const void *page);
/*
 * Both leave early: a page that is not zero is mostly known by its first bytes. Pages are 64 byte
 * aligned.
 */
bool page_is_zero(const void *page);
bool page_equal(const void *a, const void *b);
/* Asks the caches for a page that is looked at next. */
static inline void page_prefetch(const void *page)
{
	for (unsigned line = 0; line < 4096; line += 64)
		__builtin_prefetch((const char *)page + line);
}
/* Copies a page that may be written meanwhile. */
void page_copy(void *to, const void *from);
