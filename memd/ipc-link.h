/*
 * One connection to a memd-vmm or memd-pool in the event loop: requests with a deadline each,
 * replies matched by their sequence number, and what the peer says unasked. Never blocks: a peer
 * that is stopped, slow or hostile costs its own requests (-ETIMEDOUT), and one that breaks the
 * framing its connection, nothing else.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "memd/base/ipc.h"

#define IPC_LINK_PENDING_MAX 16

struct ipc_link;

struct ipc_link_ops {
	/* A message that answers no request. May free the link. */
	void (*message)(void *context, const struct ipc_message *m);
	/*
	 * The connection is over: 0 closed by the peer, negative errno otherwise. Called once; may
	 * free the link.
	 */
	void (*closed)(void *context, int error);
};

/*
 * error: 0 with *reply, which lives until the function returns; -ETIMEDOUT or -ECONNRESET with
 * reply NULL. Not called for what is pending when the link is freed.
 */
typedef void (*ipc_reply_fn)(void *context, int error, const struct ipc_message *reply);

/* Takes fd on success only. ops and context outlive the link. Negative errno. */
int ipc_link_new(sd_event *event, int fd, const struct ipc_link_ops *ops, void *context,
	struct ipc_link **ret);
/* Closes the connection; nothing is called any more. Allowed inside a callback. NULL is allowed. */
void ipc_link_free(struct ipc_link *l);
DEFINE_CLEANUP(struct ipc_link *, ipc_link_free)

/*
 * Sends a request; reply is called once, within timeout_us. Descriptors stay the caller's. -EBUSY
 * when IPC_LINK_PENDING_MAX are under way, -EAGAIN when the peer does not read, -ENOTCONN after the
 * end, -EPIPE, ...: reply is not called then.
 */
int ipc_link_request(struct ipc_link *l, uint16_t type, const void *payload, size_t size,
	const int *fds, size_t n_fds, uint64_t timeout_us, ipc_reply_fn reply, void *context);
