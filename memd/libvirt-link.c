/* Calls to libvirt as jobs of a thread, and what comes of them in the loop; see libvirt-link.h. */
#include "memd/libvirt-link.h"

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "memd/base/clock.h"
#include "memd/base/overflow.h"
#include "memd/libvirt-remote.h"
#include "memd/worker.h"

#define AGAIN_MIN_US (1 * US_PER_S)
#define AGAIN_MAX_US (60 * US_PER_S)
#define LEAVE_US     (2 * US_PER_S)

enum task { TASK_ROUND, TASK_SET_MEMORY, TASK_SET_PERIOD, TASK_LEAVE };

struct call {
	struct job job; /* first */
	struct call *next; /* of the link's, under way */
	struct libvirt_link *link;
	struct remote *remote;
	enum task task;
	char uuid[DOMAIN_UUID_MAX];
	uint64_t value;
	libvirt_done_fn done; /* NULL: nobody wants to know */
	void *context;
	/* filled by the thread */
	int result;
	struct error error;
	struct libvirt_report report;
};

struct libvirt_link {
	const struct libvirt_link_ops *ops;
	void *context;
	struct worker *worker;
	struct remote *remote; /* the worker's while a call is under way */
	sd_event_source *bell_source;
	struct call *calls; /* under way */
	bool in_round, connected, leaving;
	uint64_t again_us, wait_us; /* not before; how long the last wait was */
};

static void run_call(struct job *j)
{
	struct call *c = (struct call *)j;

	switch (c->task) {
	case TASK_ROUND:
		c->result = remote_round(c->remote, &c->report, &c->error);
		break;
	case TASK_SET_MEMORY:
		c->result = remote_set_memory(c->remote, c->uuid, c->value, &c->error);
		break;
	case TASK_SET_PERIOD:
		c->result = remote_set_period(c->remote, c->uuid, (uint32_t)c->value, &c->error);
		break;
	case TASK_LEAVE:
		remote_disconnect(c->remote);
		break;
	}
}

static void note_connected(struct libvirt_link *l, bool connected, const char *why)
{
	if (connected) {
		l->wait_us = 0;
	} else {
		l->wait_us = l->wait_us ? u64_min(l->wait_us * 2, AGAIN_MAX_US) : AGAIN_MIN_US;
		l->again_us = clock_monotonic_us() + l->wait_us;
	}
	l->connected = connected;
	l->ops->changed(l->context, connected, why);
}

static void unlink_call(struct libvirt_link *l, const struct call *c)
{
	struct call **p = &l->calls;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
}

static void call_done(struct job *j)
{
	struct call *c = (struct call *)j;
	struct libvirt_link *l = c->link;

	unlink_call(l, c);
	if (l->leaving) {
		libvirt_report_done(&c->report);
	} else if (c->task == TASK_ROUND) {
		l->in_round = false;
		if (c->result != -ECANCELED)
			note_connected(l, c->result == 0, c->error.text);
		if (c->result == 0)
			l->ops->reported(l->context, &c->report);
	} else if (c->done) {
		error_set(&c->error, c->result, "%s", strerror(-c->result));
		c->done(c->context, c->result, &c->error);
	}
	free(c);
}

static int submit(struct libvirt_link *l, enum task task, const char *uuid, uint64_t value,
	libvirt_done_fn done, void *context)
{
	struct call *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->job = (struct job){.run = run_call, .done = call_done};
	c->link = l;
	c->remote = l->remote;
	c->task = task;
	if (uuid)
		snprintf(c->uuid, sizeof(c->uuid), "%s", uuid);
	c->value = value;
	c->done = done;
	c->context = context;
	c->result = -ECANCELED; /* until it ran */
	c->next = l->calls;
	l->calls = c;
	worker_submit(l->worker, &c->job);
	return 0;
}

static int on_bell(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct libvirt_link *l = userdata;
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return -errno;
	l->ops->rang(l->context);
	return 0;
}

void libvirt_link_round(struct libvirt_link *l, uint64_t now_us)
{
	if (l->in_round || now_us < l->again_us)
		return;
	l->in_round = submit(l, TASK_ROUND, NULL, 0, NULL, NULL) == 0;
}

int libvirt_link_set_memory(struct libvirt_link *l, const char *uuid, uint64_t bytes,
	libvirt_done_fn done, void *context)
{
	return l->connected ? submit(l, TASK_SET_MEMORY, uuid, bytes, done, context) : -ENOTCONN;
}

int libvirt_link_set_period(struct libvirt_link *l, const char *uuid, uint32_t seconds,
	libvirt_done_fn done, void *context)
{
	return l->connected ? submit(l, TASK_SET_PERIOD, uuid, seconds, done, context) : -ENOTCONN;
}

void libvirt_link_forget(struct libvirt_link *l, const void *context)
{
	for (struct call *c = l->calls; c; c = c->next)
		if (c->context == context)
			c->done = NULL;
}

int libvirt_link_new(sd_event *event, const char *uri, const struct libvirt_link_ops *ops,
	void *context, struct libvirt_link **ret)
{
	struct libvirt_link *l = calloc(1, sizeof(*l));
	int bell_fd, r;

	if (!l)
		return -ENOMEM;
	*l = (struct libvirt_link){.ops = ops, .context = context};
	r = remote_new(uri, &l->remote, &bell_fd);
	if (r == 0)
		r = sd_event_add_io(event, &l->bell_source, bell_fd, EPOLLIN, on_bell, l);
	if (r >= 0)
		r = worker_new(event, "memd-libvirt", &l->worker);
	if (r < 0) {
		libvirt_link_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

void libvirt_link_free(struct libvirt_link *l)
{
	if (!l)
		return;
	sd_event_source_disable_unref(l->bell_source);
	l->leaving = true;
	if (l->worker) {
		(void)submit(l, TASK_LEAVE, NULL, 0, NULL, NULL);
		if (!worker_finish(l->worker, LEAVE_US))
			return; /* the library does not come back: what its thread uses stays */
	}
	remote_free(l->remote);
	free(l);
}

void libvirt_report_done(struct libvirt_report *r)
{
	for (size_t i = 0; i < r->n; i++) {
		free(r->domains[i].name);
		free(r->domains[i].facts);
	}
	free(r->domains);
	*r = (struct libvirt_report){0};
}
