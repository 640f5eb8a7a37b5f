/*
 * The conversation with one memd-vmm (memd/base/vmm-proto.h) from memd's side. The peer is not
 * believed: what it sends is checked here for size, range and sense, and what it claims about
 * memory is compared with the kernel in the ledger.
 */
#pragma once

#include "memd/base/error.h"
#include "memd/base/vmm-proto.h"
#include "memd/ipc-link.h"

struct vmm_link;

struct vmm_link_ops {
	/* The first message, checked. Called once. May free the link. */
	void (*hello)(void *context, const struct vmm_hello *hello);
	/* After HELLO. reason is terminated. May free the link. */
	void (*event)(void *context, const struct vmm_event *event);
	/* As ipc_link_ops.closed, -EPROTO for nonsense, -EPROTONOSUPPORT for another version. The owner frees the link here. */
	void (*closed)(void *context, int error);
};

/*
 * Connects to the listening socket at path; HELLO comes later. Negative errno. ops and context
 * outlive the link.
 */
int vmm_link_connect(sd_event *event, const char *path, const struct vmm_link_ops *ops,
	void *context, struct vmm_link **ret);
/* As ipc_link_free. */
void vmm_link_free(struct vmm_link *l);
DEFINE_CLEANUP(struct vmm_link *, vmm_link_free)

/* VMM_GET_STATS. The reply is read with vmm_link_parse_stats. Errors as ipc_link_request. */
int vmm_link_get_stats(struct vmm_link *l, uint64_t timeout_us, ipc_reply_fn reply, void *context);
/*
 * A request answered by VMM_DONE, read with vmm_link_parse_done. Descriptors stay the caller's.
 */
int vmm_link_command(struct vmm_link *l, enum vmm_message_type type, const void *payload,
	size_t size, const int *fds, size_t n_fds, uint64_t timeout_us, ipc_reply_fn reply,
	void *context);

/*
 * error and reply as a ipc_reply_fn gets them. Returns error when there is one, -EPROTO when the
 * reply is no VMM_STATS, when its states do not add up to all pages, or its RAM is not ram_bytes;
 * then *ret is untouched.
 */
int vmm_link_parse_stats(
	int error, const struct ipc_message *reply, uint64_t ram_bytes, struct vmm_stats *ret);
/* The result in VMM_DONE, or why there is none; *e says the vmm's reason. */
int vmm_link_parse_done(int error, const struct ipc_message *reply, struct error *e);

/*
 * Checks a HELLO by itself: version, terminated strings, ranges that lie in the address space and
 * add up.
 */
int vmm_hello_check(const struct vmm_hello *hello);
