/*
 * A guest that means harm: writes garbage to the virtqueues and registers of every virtio device,
 * reproducibly. Command line: mode=hostile, target=balloon|console|all (default all), seed, rounds
 * (default 1000).
 */
#pragma once

/* Ring 3 of the boot processor. Reports "memd-guest: hostile rounds=N" and powers off. */
void hostile_run(void) __attribute__((noreturn));
