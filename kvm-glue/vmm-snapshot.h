/*
 * Snapshots of the whole guest: going on from one, and taking one while the control loop goes on
 * serving memd.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "kvm-glue/snapshot.h"
#include "memd/base/error.h"
#include "memd/base/vmm-proto.h"

struct vmm;

/* A snapshot's state in memory, until the guest goes on from it. */
struct vmm_saved {
	uint8_t *bytes; /* NULL: none */
	size_t size;
	struct snapshot_reader reader; /* stands after the machine's description */
	uint64_t memory_bytes;
	uint32_t n_vcpus;
	int template_fd; /* -1: none */
};

/*
 * Reads DIRECTORY/state, checks what it says of the machine, and takes template_fd, or, when that is
 * -1, loads DIRECTORY/ram. backend: enum host_backend. -EINVAL, -EPROTO, -EOPNOTSUPP, an errno of files.
 */
int vmm_saved_open(const char *directory, int template_fd, unsigned backend, struct vmm_saved *ret,
	struct error *e);
/* Safe on a zeroed one. */
void vmm_saved_done(struct vmm_saved *s);
/* Puts the built machine, whose vCPUs have not started, into that state. Frees what is not needed any more. */
int vmm_restore(struct vmm *vmm, struct vmm_saved *s, struct error *e);

/*
 * A snapshot being taken. Its thread works while all vCPUs stand still up to VMM_SNAPSHOT_WRITTEN;
 * then they may go on while it waits for the disk.
 */
enum vmm_snapshot_phase {
	VMM_SNAPSHOT_NONE, /* none is being taken */
	VMM_SNAPSHOT_WRITING,
	VMM_SNAPSHOT_WRITTEN,
	VMM_SNAPSHOT_ENDED,
};
struct vmm_snapshot {
	pthread_t thread;
	int event_fd; /* signalled at each new phase; -1: not yet made */
	_Atomic enum vmm_snapshot_phase phase;
	atomic_bool cancel;
	struct vmm *vmm;
	int state_fd;
	int ram_fd;
	int result; /* valid when ended */
	struct error error;
};

/* An errno of eventfd. */
int vmm_snapshot_init(struct vmm_snapshot *s, struct vmm *vmm);
/* Cancels and waits. Safe on one that vmm_snapshot_init never saw, with event_fd -1. */
void vmm_snapshot_done(struct vmm_snapshot *s);
/* Takes the descriptors. All vCPUs stand still. An errno of pthread_create. */
int vmm_snapshot_begin(struct vmm_snapshot *s, int state_fd, int ram_fd);
/* After VMM_SNAPSHOT_ENDED: joins; a new one may be begun. Returns the result; *ret_error says why. */
int vmm_snapshot_end(struct vmm_snapshot *s, struct error *ret_error);
