/*
 * The agent: one port, one loop. Reports, makes room when asked or says why not, asks and cries by
 * itself (condition.h).
 *
 * Must never: execute, open or store anything that the host sends; wait for the host; allocate once
 * it runs.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "balloon-agent/codec.h"
#include "balloon-agent/condition.h"
#include "balloon-agent/figures.h"
#include "balloon-agent/room.h"

struct agent {
	int port_fd; /* non-blocking */
	bool port_stays; /* a virtio port, which the host may leave and come back to */
	int signal_fd;
	int pressure_fd; /* a trigger of the kernel's, or -1 */
	uint64_t floor_bytes;
	struct figures figures;
	struct room room;
	struct condition condition;

	bool connected;
	unsigned version; /* spoken; 0: none yet */
	uint64_t refused_version; /* the host's newest, which this agent does not speak; 0: none */
	uint64_t interval_us;
	uint64_t next_us; /* of the next report, or look at the port */
	uint32_t shrink_number;
	struct agent_stream in;
	uint64_t in_us; /* when the last of it came */
	uint8_t out[4 * AGENT_FRAME_MAX];
	size_t n_out;
};

/*
 * Takes the descriptors. root_fd (stays the caller's) has proc/ and sys/. Negative errno: there is
 * no proc/meminfo.
 */
int agent_init(struct agent *a, int port_fd, int signal_fd, int root_fd, uint64_t floor_bytes);
void agent_done(struct agent *a);
/*
 * Until a signal arrives at signal_fd: 0; or the port is gone for good: -EPIPE, any errno of it.
 */
int agent_run(struct agent *a);

/* The figures as a report would have them. Negative errno. */
int agent_report(struct agent *a, struct agent_message *ret);
