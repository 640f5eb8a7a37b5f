/*
 * The virtio balloon's driver (virtio 1.2, 5.5): inflate, deflate, statistics, free page reporting.
 * The boot processor calls balloon_service often; it never waits for the device.
 *
 * Command line: reporting=0 leaves free page reporting out, check_returned=1 looks whether deflated
 * pages read as zeroes.
 */
#pragma once

#include "tests/guest/memd-guest/free-pages.h"

/*
 * Ring 3; room for capacity pages, while memory_alloc works. Without a balloon device all that
 * follows does nothing.
 */
void balloon_init(uint64_t capacity);
/*
 * One step of what is to be done: at most 256 pages. Returns whether there is more to do at once.
 */
bool balloon_service(uint64_t now_ns);

/*
 * Reports the pages of *s as free. They come back to the free pages when the device has
 * acknowledged them, and at once where the device does not take reports. *s is empty afterwards.
 * Nothing else may be under way.
 */
void balloon_report_free(struct page_stack *s);
bool balloon_reports(void);

uint64_t balloon_pages(void);
/* Pages in acknowledged reports since the start. */
uint64_t balloon_reported_pages(void);
/*
 * Deflated pages, and how many of them did not read as zeroes (looked at with check_returned=1
 * only).
 */
uint64_t balloon_returned_pages(void);
uint64_t balloon_returned_dirty_pages(void);
