/*
 * Requests and replies over one SOCK_SEQPACKET connection. Knows framing and time, not what
 * messages mean.
 */
#include "memd/ipc-link.h"

#include <sys/epoll.h>
#include <time.h>

#include "memd/base/fd.h"

/* Messages taken in one turn of the loop, so that a chatty peer cannot keep the others waiting. */
#define BURST_MAX 16

struct pending {
	uint32_t seq; /* 0: free */
	uint64_t deadline_us;
	ipc_reply_fn reply;
	void *context;
};

struct ipc_link {
	sd_event *event;
	sd_event_source *io;
	sd_event_source *timer;
	int fd; /* -1: over */
	const struct ipc_link_ops *ops;
	void *context;
	struct ipc_message *buffer;
	uint32_t last_seq;
	struct pending pending[IPC_LINK_PENDING_MAX];
	unsigned depth; /* of our handlers on the stack: memory goes with the last one */
	bool freed;
};

static void destroy(struct ipc_link *l)
{
	sd_event_source_disable_unref(l->io);
	sd_event_source_disable_unref(l->timer);
	cleanup_closep(&l->fd);
	sd_event_unref(l->event);
	ipc_message_free(l->buffer);
	free(l);
}

static void enter(struct ipc_link *l)
{
	l->depth++;
}

static void leave(struct ipc_link *l)
{
	if (--l->depth == 0 && l->freed)
		destroy(l);
}

static void arm_timer(struct ipc_link *l)
{
	uint64_t earliest = UINT64_MAX;

	for (size_t i = 0; i < IPC_LINK_PENDING_MAX; i++)
		if (l->pending[i].seq && l->pending[i].deadline_us < earliest)
			earliest = l->pending[i].deadline_us;
	if (earliest == UINT64_MAX) {
		sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
		return;
	}
	sd_event_source_set_time(l->timer, earliest);
	sd_event_source_set_enabled(l->timer, SD_EVENT_ONESHOT);
}

static void answer(struct ipc_link *l, struct pending *p, int error, const struct ipc_message *m)
{
	struct pending done = *p;

	*p = (struct pending){0};
	arm_timer(l);
	done.reply(done.context, error, m);
}

/* Ends the connection: everything pending fails, then `closed` is called. */
static void end(struct ipc_link *l, int error)
{
	sd_event_source_set_enabled(l->io, SD_EVENT_OFF);
	cleanup_closep(&l->fd);
	l->fd = -1;
	for (size_t i = 0; i < IPC_LINK_PENDING_MAX && !l->freed; i++)
		if (l->pending[i].seq)
			answer(l, &l->pending[i], -ECONNRESET, NULL);
	if (!l->freed)
		l->ops->closed(l->context, error);
}

static void deliver(struct ipc_link *l, const struct ipc_message *m)
{
	if (m->header.seq == 0) {
		l->ops->message(l->context, m);
		return;
	}
	for (size_t i = 0; i < IPC_LINK_PENDING_MAX; i++) {
		if (l->pending[i].seq == m->header.seq) {
			answer(l, &l->pending[i], 0, m);
			return;
		}
	}
	/* The answer to a request that was given up. */
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct ipc_link *l = userdata;

	enter(l);
	for (int i = 0; i < BURST_MAX && !l->freed && l->fd >= 0; i++) {
		int r = ipc_recv(l->fd, l->buffer);

		if (r == -EAGAIN)
			break;
		if (r != 0)
			end(l, r == IPC_CLOSED ? 0 : r);
		else
			deliver(l, l->buffer);
	}
	leave(l);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct ipc_link *l = userdata;
	uint64_t now_us;

	sd_event_now(l->event, CLOCK_MONOTONIC, &now_us);
	enter(l);
	for (size_t i = 0; i < IPC_LINK_PENDING_MAX && !l->freed; i++)
		if (l->pending[i].seq && l->pending[i].deadline_us <= now_us)
			answer(l, &l->pending[i], -ETIMEDOUT, NULL);
	if (!l->freed)
		arm_timer(l);
	leave(l);
	return 0;
}

int ipc_link_new(sd_event *event, int fd, const struct ipc_link_ops *ops, void *context,
	struct ipc_link **ret)
{
	_cleanup_(ipc_link_freep) struct ipc_link *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->fd = -1;
	l->event = sd_event_ref(event);
	l->ops = ops;
	l->context = context;
	l->buffer = ipc_message_new();
	if (!l->buffer)
		return -ENOMEM;
	r = fd_set_nonblock(fd, true);
	if (r < 0)
		return r;
	r = sd_event_add_io(event, &l->io, fd, EPOLLIN, on_io, l);
	if (r < 0)
		return r;
	r = sd_event_add_time(event, &l->timer, CLOCK_MONOTONIC, UINT64_MAX, 1000, on_timer, l);
	if (r < 0)
		return r;
	sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
	l->fd = fd;
	*ret = TAKE_PTR(l);
	return 0;
}

void ipc_link_free(struct ipc_link *l)
{
	if (!l)
		return;
	l->freed = true;
	if (l->depth == 0)
		destroy(l);
}

static struct pending *free_slot(struct ipc_link *l)
{
	for (size_t i = 0; i < IPC_LINK_PENDING_MAX; i++)
		if (!l->pending[i].seq)
			return &l->pending[i];
	return NULL;
}

int ipc_link_request(struct ipc_link *l, uint16_t type, const void *payload, size_t size,
	const int *fds, size_t n_fds, uint64_t timeout_us, ipc_reply_fn reply, void *context)
{
	struct pending *p = free_slot(l);
	uint64_t now_us;
	int r;

	if (l->fd < 0)
		return -ENOTCONN;
	if (!p)
		return -EBUSY;
	if (++l->last_seq == 0) /* 0 is what nobody asked for */
		l->last_seq = 1;
	r = ipc_send(l->fd, type, l->last_seq, payload, size, fds, n_fds);
	if (r < 0)
		return r;
	sd_event_now(l->event, CLOCK_MONOTONIC, &now_us);
	*p = (struct pending){
		.seq = l->last_seq,
		.deadline_us = now_us + timeout_us,
		.reply = reply,
		.context = context,
	};
	arm_timer(l);
	return 0;
}
