/*
 * The port of a console whose other end is a socket of the host's: the agent's channel. By the
 * device's thread, with its run_lock held, but where something else is said.
 */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "kvm-glue/virtio-device.h"

struct agent_port;

struct agent_port_stats {
	uint64_t rx_bytes; /* to the guest */
	uint64_t tx_bytes; /* from the guest */
	uint64_t dropped_bytes; /* sent by the guest while nobody was attached */
};

/* A peer was attached, or the one that was is gone. */
typedef void (*agent_port_changed)(void *context, bool attached);

/* A port of d, which is initialized, with these queues; nobody is attached. -ENOMEM. */
int agent_port_new(struct virtio_device *d, unsigned rx_queue, unsigned tx_queue,
	agent_port_changed changed, void *context, struct agent_port **ret);
void agent_port_free(struct agent_port *p); /* after the device has halted; NULL is allowed */

/*
 * Hands over a connected, non-blocking stream socket in place of the one that is there (closed); -1:
 * none. It counts from the next agent_port_take. Any thread.
 */
void agent_port_attach(struct agent_port *p, int fd);
void agent_port_take(struct agent_port *p);
bool agent_port_attached(const struct agent_port *p);

/*
 * Moves bytes as far as they go; guest_open: the guest has opened its end. 0, VIRTIO_SERVE_AGAIN, or
 * -EPROTO when the guest broke the rules.
 */
int agent_port_serve_tx(struct agent_port *p);
int agent_port_serve_rx(struct agent_port *p, bool guest_open);
/* The descriptor and events to wait for, fd -1 for none. */
void agent_port_watch(const struct agent_port *p, bool guest_open, struct pollfd *ret);
/* Reset: chains are forgotten, the peer stays. */
void agent_port_stopped(struct agent_port *p);

/*
 * For a snapshot. take_back: no chain is popped any more; returns how many bytes of the transmit
 * queue's next chain have been passed on already. skip: says so to a restored port.
 */
uint64_t agent_port_take_back(struct agent_port *p);
void agent_port_skip(struct agent_port *p, uint64_t bytes);

/* Any thread. */
void agent_port_stats_read(struct agent_port *p, struct agent_port_stats *ret);
