/*
 * A whole memd in the process of a test or benchmark: the manager with its loop, tick and workers,
 * without a bus, in a directory of its own, with guests of the freestanding kind. Ends the process
 * with a message when something of that does not work: there would be nothing to measure.
 */
#pragma once

#include "memd/manager.h"
#include "tests/guest/zram.h"

struct host_run {
	struct manager *m;
	struct zram_swap swap;
	char directory[64];
	char config_path[96];
	char guests_dir[96];
	char runtime_dir[96];
	char kernel[4096];
	char vmm[4096], pool[4096];
	struct manager_options options;
};

/* Says why on stderr and exits with 1. */
void host_run_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/*
 * settings: lines of memd.conf after a [Host] section that sets the programs and a cgroup of our
 * own. swap_bytes: of a zram device of our own, 0 for none.
 */
void host_run_start(struct host_run *h, const char *settings, uint64_t swap_bytes);
/* Stops the guests and takes everything away. */
void host_run_end(struct host_run *h);

/* A guest that runs; it lives until it is stopped. */
struct guest *host_run_guest(struct host_run *h, const char *name, uint64_t memory_bytes,
	unsigned n_vcpus, const char *command_line);
void host_run_stop_guest(struct host_run *h, struct guest *g);

/* Turns the loop for that long. */
void host_run_for(struct host_run *h, uint64_t us);
/* The value of " name=" in the last whole line of the guest's console that has one, 0 without. */
uint64_t host_run_value(const struct guest *g, const char *name);
/* Turns the loop until a line has it and it is at least `least`. */
void host_run_until_value(
	struct host_run *h, struct guest *g, const char *name, uint64_t least, uint64_t timeout_us);
/* Whether the console has the text. */
bool host_run_has_text(const struct guest *g, const char *text);
void host_run_until_text(
	struct host_run *h, struct guest *g, const char *text, uint64_t timeout_us);
