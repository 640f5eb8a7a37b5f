/*
 * A guest that means harm: writes garbage to the virtqueues and registers of every virtio device,
 * reproducibly from its seed on one processor; several race each other. It harms itself nowhere but
 * in its unused RAM, so that it can go on to the end, and a machine that fell over is told from a
 * guest that did.
 *
 * Command line: mode=hostile, target=balloon|console|all (default all), seed, rounds of each
 * processor (default 500); then=work: afterwards the ordinary workload runs.
 */
#pragma once

/* Ring 3 of the boot processor, before others run and before memory is allocated. */
void hostile_init(void);
/* Ring 3, each processor: all its rounds. */
void hostile_run(void);
/*
 * Ring 3 of the boot processor: waits for n_cpus to have come back from hostile_run, resets the
 * devices, reports "memd-guest: hostile rounds=N", and powers off unless work is to follow.
 */
void hostile_finish(unsigned n_cpus);
