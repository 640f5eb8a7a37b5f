/* The other processors, and the local APIC that starts them and ticks. */
#pragma once

#include "tests/guest/memd-guest/cpu.h"
#include "tests/guest/memd-guest/start-info.h"

#define TIMER_HZ 100 /* the command line's timer_hz says otherwise */

/*
 * Ring 0, once: finds the processors in the ACPI MADT; without one, believes the command line's
 * vcpus=.
 */
void smp_init(const struct start_info *info);
/* Of what was found, at most vcpus= when that is given; the boot processor counts. */
unsigned smp_n_cpus(void);
/*
 * Ring 3 of the boot processor: starts all others, each calling fn(its struct cpu) in ring 3. Stops
 * the guest on failure.
 */
void smp_start_others(void (*fn)(void *));
/* Ring 3, each CPU for itself: local APIC on, timer ticking. */
void smp_timer_start(void);
/* Ring 0. */
void smp_timer_acknowledge(void);
