/*
 * A machine without KVM for tests and fuzz targets of devices: RAM that remembers who discarded
 * what, the real bus, interrupts that count, and doorbells. It takes the place of
 * dedup/guest-ram.c at link time (tests/CMakeLists.txt), so it defines all of its functions that
 * devices use.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "kvm-glue/machine.h"

#define FAKE_LOW_BYTES	(8 * MIB) /* at 0 */
#define FAKE_HIGH_BYTES (8 * MIB) /* at MACHINE_HIGH_RAM_BASE: page numbers go on there */
#define FAKE_LOW_PAGES	(FAKE_LOW_BYTES / PAGE_BYTES)
#define FAKE_PAGES	((FAKE_LOW_BYTES + FAKE_HIGH_BYTES) / PAGE_BYTES)

struct fake_discard {
	uint64_t page;
	uint64_t n_pages;
	int why; /* enum hole_reason, or -1 for an undiscard */
};

struct fake_msi {
	bool used;
	int eventfd;
	bool masked;
	uint64_t address;
	uint32_t data;
	unsigned updates;
};

struct fake_machine {
	struct machine machine;
	struct fake_machine *next; /* in the list of all */
	int fail_after; /* that many calls of msi_new and bus_add succeed, the next one fails; -1:
			   none does */
	bool no_doorbells; /* the machine has no ioeventfd */
	_Atomic bool no_log; /* the log of writes cannot be started */
	_Atomic bool log_on;
	_Atomic bool wrote[FAKE_PAGES]; /* guest_ram_wrote was told */
	pthread_mutex_t lock; /* what follows */
	unsigned n_doorbells; /* registered now */
	struct {
		uint64_t gpa;
		unsigned size;
		int eventfd;
	} doorbells[64];
	struct fake_msi msis[64];
	unsigned n_ranges; /* ever on the bus */
	struct {
		struct bus_range *range;
		bool enabled;
	} ranges[64];
	int lines[24];
	unsigned stops;
	int64_t busy_pages; /* marked and not done: a page counts each time */
	uint64_t busy_calls;
	unsigned n_discards;
	struct fake_discard discards[4096];
};

struct fake_machine *fake_machine_new(void);
/* Fails the test when a doorbell or an MSI was left. */
void fake_machine_free(struct fake_machine *f);

/* Guest memory, as the guest sees it. NULL when it is not RAM. */
void *fake_ram(struct fake_machine *f, uint64_t gpa, uint64_t bytes);
/* Discards since the last call of fake_discards_clear, copied. */
unsigned fake_discards(struct fake_machine *f, struct fake_discard *ret, unsigned max);
void fake_discards_clear(struct fake_machine *f);
/* Pages that a device marked busy and not yet done, and how often it marked some. */
int64_t fake_busy_pages(struct fake_machine *f, uint64_t *ret_calls);
/* Level of a legacy line. */
int fake_line(struct fake_machine *f, unsigned gsi);
/* How often the vector's interrupt was delivered since the last look. */
unsigned fake_msi_take(struct fake_machine *f, uint32_t gsi);

/*
 * The guest's accesses: a doorbell takes a write that fits it, the bus the rest. size at most 4 for
 * io, 8 for mmio.
 */
uint64_t fake_io_read(struct fake_machine *f, uint16_t port, unsigned size);
void fake_io_write(struct fake_machine *f, uint16_t port, unsigned size, uint32_t value);
uint64_t fake_mmio_read(struct fake_machine *f, uint64_t gpa, unsigned size);
void fake_mmio_write(struct fake_machine *f, uint64_t gpa, unsigned size, uint64_t value);
