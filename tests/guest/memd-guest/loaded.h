/*
 * A guest whose memory is filled from outside: a program on the host (tests/bench) writes any bytes
 * into it, and the guest verifies them from then on by the sums of its pages, changes some, and
 * carries out the orders of loaded-control.h. One processor.
 *
 * Command line: mode=loaded,
 *   loaded_mib         so much memory, said on the console as "loaded gpa=ADDRESS control=ADDRESS
 *                      pages=N"
 *   loaded_per_s       pages verified a second (default 2000)
 *   loaded_hot_mib     of its end: changed all the time (default 0)
 *   loaded_rewrite_per_s  pages of that changed a second (default 0)
 */
#pragma once

/* Ring 3 of the boot processor. */
void loaded_run(void) __attribute__((noreturn));
