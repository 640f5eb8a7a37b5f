/*
 * A file or a block device as a disk: transfers between it and memory, with io_uring; where the
 * kernel does not allow that, with ordinary calls, one after the other. Knows nothing of guests.
 * One thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "memd/base/cleanup.h"
#include "memd/base/error.h"

#define DISK_SECTOR_BYTES 512
#define DISK_SERIAL_BYTES 20
#define DISK_QUEUES_MAX	  8
#define DISK_IOV_MAX	  256

struct io_uring;

struct disk {
	int fd; /* with the page cache */
	int direct_fd; /* past it; -1: none */
	bool read_only;
	unsigned n_queues; /* that the guest is to get */
	uint64_t capacity_bytes; /* whole sectors, not 0 */
	char serial[DISK_SERIAL_BYTES + 1];
	struct io_uring *ring; /* NULL: ordinary calls */
	uint8_t *zeros;
};

/*
 * PATH[,ro][,direct][,queues=N][,serial=TEXT]: opens and locks it. -EINVAL for what cannot be a
 * disk, -EWOULDBLOCK when another one has it open for writing, any errno of open.
 */
int disk_open(const char *spec, struct disk **ret, struct error *e);
/* A ring for so many transfers at once. When it cannot be had, ordinary calls do: the errno. */
int disk_use_ring(struct disk *d, unsigned n_transfers);
/* After all transfers have ended. NULL is allowed. */
void disk_free(struct disk *d);
DEFINE_CLEANUP(struct disk *, disk_free)

enum disk_operation {
	DISK_READ,
	DISK_WRITE,
	DISK_FLUSH, /* what was written before is durable */
	DISK_DISCARD, /* a hint: nobody needs these bytes any more */
	DISK_ZERO, /* they read as zeros, and stay reserved */
	DISK_ZERO_UNMAP, /* they read as zeros */
};

/* Filled by the caller up to the next comment; the range lies within the capacity. */
struct disk_transfer {
	enum disk_operation operation;
	bool durable; /* a write: not only in a cache when it ends */
	uint64_t offset; /* in the file, of what is left */
	uint64_t bytes; /* that are left; of a read or write as many as the iovecs hold */
	unsigned n_iov;
	struct iovec iov[DISK_IOV_MAX];
	/* private */
	struct iovec *next_iov;
	bool paged; /* through the page cache: the direct descriptor refused it */
	bool zeroing; /* a write of zeros, instead of fallocate */
};

/*
 * Starts a transfer. DISK_STARTED: it is on the ring, and disk_submit has the kernel look at it.
 * Else it is over: 0, or negative errno.
 */
#define DISK_STARTED 1
int disk_start(struct disk *d, struct disk_transfer *t, uint64_t tag);
/* False: not now (the kernel is out of memory); it is to be tried again. */
bool disk_submit(struct disk *d);
/* The next answer on the ring; false when there is none. */
bool disk_next(struct disk *d, uint64_t *ret_tag, int64_t *ret_result);
/* Waits for one, having submitted what was not. */
void disk_wait(struct disk *d);
/* What was answered to a transfer: it goes on (as disk_start), or is over. */
int disk_continue(struct disk *d, struct disk_transfer *t, uint64_t tag, int64_t result);
/* To be polled for POLLIN; -1: without a ring. */
int disk_fd(const struct disk *d);

/* Numbers of the system calls that transfers make, ended by -1. */
extern const int disk_calls[];
