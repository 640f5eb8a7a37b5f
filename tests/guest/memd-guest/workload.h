/*
 * The guest's work: fills its memory, then rewrites, walks and verifies it, every word of every
 * page that it wrote. Page i of an area belongs to processor i % n, so that no page is written by
 * two.
 *
 * Command line; sizes in MiB, rates in pages a second of the whole guest:
 *   common_mib            the same in all guests with the same common_seed (default 1)
 *   unique_mib            depends on seed (default 0)
 *   zero_mib              written with something else first, so that it is really backed
 *   skip_mib              left unused before those, to get to high addresses (default 0)
 *   hot_mib               of the unique area: walked all the time, as common_mib is (default: all)
 *   hot_at_mib            where in the unique area that is (default 0)
 *   hot_turn_ms           after so long of its run it turns into hot2_mib at hot2_at_mib (default 0:
 *                         never), evenly within hot_turn_for_ms (default 0: at once)
 *   verify_per_s          bounds that walk; the guest sleeps in between (default 0: no bound)
 *   sweep_pages_per_s     a slow walk of all the rest (default 2000)
 *   rewrite_per_s         changes of hot unique pages
 *   rewrite_common_per_s  of common pages
 *   rewrite_zero_per_s    of zero pages
 *   seconds               of its run, after the fill: then the last line, and power off (default 0:
 *                         for ever)
 *   final_verify          1: everything once more before the last line
 *   report_ms             interval of the report line (default 1000)
 * and those of scratch.h, balloon.h, disk.h, smp.h and stopwatch.h.
 */
#pragma once

/*
 * Ring 3 of the boot processor, once, before other processors run: reads the command line, lays out
 * the areas.
 */
void workload_init(unsigned n_cpus);
/*
 * Ring 3 of each processor; arg is its struct cpu. The boot processor also reports, and drives the
 * balloon.
 */
void workload_run(void *arg) __attribute__((noreturn));
