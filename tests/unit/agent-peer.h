/* The other end of an agent channel, for tests: sends messages, and waits for those that come. */
#pragma once

#include <stdbool.h>

#include "balloon-agent/codec.h"

struct agent_peer {
	int fd; /* -1: none */
	struct agent_stream in;
};

/* A connected pair: one end in *peer, the other returned. Both non-blocking. */
int agent_peer_init(struct agent_peer *peer);
void agent_peer_done(struct agent_peer *peer);
void agent_peer_send(struct agent_peer *peer, const struct agent_message *m);
/* Any bytes; what does not fit into the socket is dropped. Returns what went. */
size_t agent_peer_send_bytes(struct agent_peer *peer, const void *bytes, size_t n);
/* The HELLO of one who speaks versions min to max. number as in the protocol. */
void agent_peer_hello(struct agent_peer *peer, uint32_t number, uint64_t min, uint64_t max);
/*
 * The next message of that type, of those that are there or come within the time; others are
 * skipped. false: none.
 */
bool agent_peer_wait(struct agent_peer *peer, enum agent_type type, unsigned timeout_ms,
	struct agent_message *ret);
