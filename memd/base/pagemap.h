/*
 * /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst): which pages are present, swapped,
 * of a file, write-protected by userfaultfd. Reading it touches no page. The bits used here are
 * shown to unprivileged readers too (only page frame numbers are hidden).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PAGEMAP_PRESENT	  (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED	  (UINT64_C(1) << 62)
#define PAGEMAP_FILE	  (UINT64_C(1) << 61) /* in our RAM: of a pool or template */
#define PAGEMAP_EXCLUSIVE (UINT64_C(1) << 56) /* mapped once; not set for the kernel's zero page */
#define PAGEMAP_UFFD_WP	  (UINT64_C(1) << 57) /* frozen */

#define PAGEMAP_PFN_MASK ((UINT64_C(1) << 55) - 1) /* of a present page; 0 for the unprivileged */

/* Opens it for pid, 0 for this process. Returns a descriptor or negative errno. */
int pagemap_open(pid_t pid);

/*
 * Reads the entries of n_pages pages from address (page aligned) into entries.
 * 0, negative errno, -EIO when the kernel returned fewer (the process exits).
 */
int pagemap_read(int fd, uint64_t address, size_t n_pages, uint64_t *entries);
