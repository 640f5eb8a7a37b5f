/*
 * A balloon in a fake machine with a driver on it: what the tests of the balloon's parts begin with.
 * A program has one.
 */
#pragma once

#include "fake-driver.h"
#include "kvm-glue/virtio-balloon.h"
#include "kvm-glue/virtio-device.h"
#include "kvm-glue/virtio-pci.h"

enum {
	BALLOON_SLOT = 1,
	/* queues, with all features */
	INFLATE = 0,
	DEFLATE = 1,
	STATS = 2,
	HINTS = 3,
	REPORTING = 4,
	N_QUEUES = 5,

	F_STATS_VQ = 1 << 1,
	F_DEFLATE_ON_OOM = 1 << 2,
	F_FREE_PAGE_HINT = 1 << 3,
	F_PAGE_POISON = 1 << 4,
	F_PAGE_REPORTING = 1 << 5,

	/* offsets in the device's configuration */
	CONFIG_ACTUAL = 4,
	CONFIG_COMMAND = 8,
	CONFIG_POISON = 12,

	/* pages that tests give away: behind the buffers */
	PFN = 0x400,
	HIGH_PFN = MACHINE_HIGH_RAM_BASE / PAGE_BYTES,
};
#define NO_POISON (UINT64_MAX & ~(uint64_t)F_PAGE_POISON)

extern struct fake_machine *f;
extern struct virtio_balloon *balloon;
extern struct fake_driver driver;

/* For cmocka. */
int fake_balloon_setup(void **state);
int fake_balloon_teardown(void **state);

struct virtio_balloon_stats fake_balloon_stats(void);
/*
 * Sends an array of PFNs to a queue, waits for it, and returns the ranges that were (un)discarded
 * for it.
 */
unsigned fake_balloon_send(
	unsigned q, const uint32_t *pfns, unsigned n, struct fake_discard ret[8]);
/* Fails the test unless d is that range. */
void assert_range(const struct fake_discard *d, uint64_t page, uint64_t n, int why);
