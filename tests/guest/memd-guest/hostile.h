/*
 * A guest that means harm: writes garbage to the virtqueues and registers of every virtio device,
 * reproducibly from its seed. It harms itself nowhere but in its unused RAM, so that it can go on
 * to the end and a machine that fell over is told from a guest that did.
 *
 * Command line: mode=hostile, target=balloon|console|all (default all), seed, rounds (default 500);
 * then=work: afterwards the devices are reset and the ordinary workload runs.
 */
#pragma once

/*
 * Ring 3 of the boot processor, before any memory is allocated. Reports
 * "memd-guest: hostile rounds=N" and returns.
 */
void hostile_run(void);
