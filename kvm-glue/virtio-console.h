/*
 * virtio-console (virtio 1.2, 5.3) with two ports: 0 the console, 1 the agent's
 * channel, a virtio-serial port named VIRTIO_CONSOLE_AGENT_NAME. What the guest sends is never kept
 * beyond the chain it came in: a peer that does not read holds the guest's port back, no peer at
 * all means the bytes are dropped and counted.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvm-glue/agent-port.h"
#include "kvm-glue/machine.h"
#include "kvm-glue/pci.h"

#define VIRTIO_CONSOLE_AGENT_NAME "org.memd.agent.0"

struct virtio_console;

/*
 * Takes console output; called from the device thread, shall not block for long, takes all of it.
 */
typedef void (*virtio_console_output)(void *context, const uint8_t *data, size_t bytes);

/*
 * A console in a slot of the bus, with its thread running. agent_fd: a connected, non-blocking
 * stream socket, taken over (closed by the console, also when this fails), or -1. m, pci and
 * context outlive it. An errno of what it is made of.
 */
int virtio_console_new(struct machine *m, struct pci_bus *pci, unsigned slot,
	virtio_console_output output, void *context, int agent_fd, struct virtio_console **ret);
/*
 * Where the console's input comes from: whether there is any, and up to max bytes of it. Without it
 * there is none. Before vCPUs run; virtio_console_input_ready then says that there may be some (any
 * thread).
 */
void virtio_console_set_input(struct virtio_console *c, bool (*available)(void *context),
	size_t (*read)(void *context, uint8_t *ret, size_t max));
void virtio_console_input_ready(struct virtio_console *c);

/* After vCPUs have stopped. NULL is allowed. */
void virtio_console_free(struct virtio_console *c);
DEFINE_CLEANUP(struct virtio_console *, virtio_console_free)

/*
 * Attaches a peer to the agent's port, replacing (closing) the former; fd as above, -1 to detach.
 * Any thread.
 */
void virtio_console_attach_agent(struct virtio_console *c, int fd);

struct virtio_console_stats {
	uint64_t output_bytes; /* port 0 */
	struct agent_port_stats agent; /* port 1 */
	uint64_t ignored_messages; /* control messages that make no sense */
	uint64_t needs_reset; /* times the guest broke a rule */
};
void virtio_console_stats_read(struct virtio_console *c, struct virtio_console_stats *ret);
