/*
 * The memd-pool of one trust group: started when the group's first guest needs it, found again
 * after a restart of memd, stopped when the last guest has gone. memd connects to it on a member's
 * behalf and passes the connection on; its own connection only asks for statistics.
 *
 * A guest without ShareGroup= is a group of one, named ".NAME" (a configured name cannot begin with
 * a dot): most of the equal pages that real guests have are inside one guest, and a memd-pool costs
 * about 1 MiB. Mode=zero-only does without.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "memd/base/pool-proto.h"
#include "memd/child.h"
#include "memd/ipc-link.h"
#include "memd/process-sampler.h"

struct pool_group {
	struct pool_group *next;
	sd_event *event;
	struct worker *sampler;
	unsigned n_guests;
	char *name;
	char *program;
	char *socket_path;
	char *pid_path;
	struct child child;
	struct ipc_link *link; /* NULL: not connected */
	struct sample_process *process;
	struct process_reading *reading;
	/* The last figures; fresh: of this round. */
	bool asked;
	bool fresh;
	uint64_t memfd_bytes;
	uint64_t process_bytes;
	uint64_t references;
	void (*sampled)(void *context); /* a reading that was begun has ended */
	void *context;
};

/* Nothing is started yet. -ENOMEM. runtime_dir/pool exists. Free with pool_group_free. */
int pool_group_new(sd_event *event, struct worker *sampler, const char *name, const char *program,
	const char *runtime_dir, void (*sampled)(void *context), void *context,
	struct pool_group **ret);
enum pool_group_end {
	POOL_GROUP_STOP, /* ends memd-pool */
	POOL_GROUP_KEEP, /* leaves it running, for the next memd */
};
void pool_group_free(struct pool_group *g, enum pool_group_end end);

/*
 * Starts memd-pool, or connects to one that is there, unless that is done. members: the processes of
 * the group that live, by number with commas ("" for none): what they map of an earlier memd-pool a
 * new one takes over.
 */
int pool_group_start(struct pool_group *g, const char *members, struct error *e);
/* Whether pool_group_start has nothing to do. */
bool pool_group_is_up(const struct pool_group *g);
/* A new connection for a member, the caller's. -ENOTCONN while there is no memd-pool. */
int pool_group_connect(const struct pool_group *g);

/* Asks for this round's figures. false: nothing will come (`sampled` is not called). */
bool pool_group_sample(struct pool_group *g, uint64_t timeout_us);
