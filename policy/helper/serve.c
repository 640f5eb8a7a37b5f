/*
 * The conversation with memd. Since the policy shares this memory, nothing here protects memd: memd
 * does that itself. What is checked is what keeps a policy that means well in working order.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "memd/base/cleanup.h"
#include "memd/base/clock.h"
#include "memd/base/ipc.h"
#include "policy/helper/helper.h"
#include "policy/policy-proto.h"
#include "policy/view-record.h"

struct server {
	int fd;
	const struct memd_policy *policy;
	struct memd_host_calls calls;
	void *state;
	bool open;
	struct policy_text refusal; /* the first setting that was refused; code 0: none */
	char said[POLICY_TEXT_MAX]; /* the policy's last line of log: mostly why it refuses */
	uint8_t *area; /* shared with memd */
	size_t area_bytes;
	/* room for n_room guests */
	size_t n_room;
	struct memd_guest_view *views;
	const struct memd_guest_view **view_list;
	struct memd_proposal *proposals;
	struct memd_proposal **proposal_list;
};

static void on_log(void *host, int level, const char *line)
{
	struct server *s = host;
	struct policy_text message = {.code = level};

	snprintf(message.text, sizeof(message.text), "%s", line);
	snprintf(s->said, sizeof(s->said), "%s", line);
	(void)ipc_send(s->fd, POLICY_LOG, 0, &message, sizeof(message), NULL, 0);
}

static void refuse(struct server *s, int code, const char *what)
{
	if (s->refusal.code != 0)
		return;
	s->refusal.code = code;
	snprintf(s->refusal.text, sizeof(s->refusal.text), "%.100s: %.150s", what,
		s->said[0] ? s->said : strerror(-code));
}

/* The policy is asked at once, but memd told only when it opens. */
static int take_setting(struct server *s, const struct ipc_message *m)
{
	const char *key = (const char *)m->payload, *end = key + m->header.size, *value;
	char what[120];
	int r;

	if (m->header.size < 2 || end[-1] != '\0')
		return -EPROTO;
	value = key + strlen(key) + 1;
	if (value >= end)
		return -EPROTO;
	snprintf(what, sizeof(what), "%.40s=%.60s", key, value);
	s->said[0] = '\0';
	if (!s->policy->config) {
		snprintf(s->said, sizeof(s->said), "this policy takes no settings");
		refuse(s, -EINVAL, what);
		return 0;
	}
	r = s->policy->config(&s->calls, key, value);
	if (r < 0)
		refuse(s, r, what);
	return 0;
}

static void open_policy(struct server *s)
{
	int r = 0;

	s->said[0] = '\0';
	if (s->policy->config_complete)
		r = s->policy->config_complete(&s->calls);
	if (r < 0)
		refuse(s, r, "its settings do not fit together");
	else if (s->policy->open)
		r = s->policy->open(&s->calls, &s->state);
	if (r < 0)
		refuse(s, r, "it does not start");
	s->open = r == 0;
}

static int answer_open(struct server *s, const struct ipc_message *m)
{
	struct policy_text ready = {0};

	if (s->open)
		return -EPROTO;
	if (s->refusal.code == 0)
		open_policy(s);
	if (s->refusal.code != 0)
		return ipc_send(s->fd, POLICY_REFUSED, m->header.seq, &s->refusal,
			sizeof(s->refusal), NULL, 0);
	snprintf(ready.text, sizeof(ready.text), "%s",
		s->policy->description ? s->policy->description : "");
	return ipc_send(s->fd, POLICY_READY, m->header.seq, &ready, sizeof(ready), NULL, 0);
}

static int take_area(struct server *s, int fd, uint64_t bytes)
{
	void *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (area == MAP_FAILED)
		return -errno;
	if (s->area)
		munmap(s->area, s->area_bytes);
	s->area = area;
	s->area_bytes = bytes;
	return 0;
}

static int make_room(struct server *s, size_t n)
{
	if (n <= s->n_room)
		return 0;
	if (!GROW_ARRAY(s->views, n) || !GROW_ARRAY(s->view_list, n) ||
		!GROW_ARRAY(s->proposals, n) || !GROW_ARRAY(s->proposal_list, n))
		return -ENOMEM;
	s->n_room = n;
	return 0;
}

/* Reads the records up to where the proposals begin. */
static int read_views(struct server *s, const struct policy_evaluate *q, struct memd_host_view *ret)
{
	const uint8_t *at = s->area, *end = s->area + q->proposals_offset;
	ssize_t n = view_record_get_host(at, q->proposals_offset, ret);

	for (uint32_t i = 0; n > 0 && i < q->n_guests; i++) {
		at += n;
		n = view_record_get_guest(at, (size_t)(end - at), &s->views[i]);
		s->view_list[i] = &s->views[i];
		s->proposals[i] = (struct memd_proposal){
			.size = sizeof(s->proposals[i]),
			.target_bytes = s->views[i].target_bytes,
		};
		s->proposal_list[i] = &s->proposals[i];
	}
	if (n < 0)
		return (int)n;
	ret->n_guests = q->n_guests;
	ret->guests = s->view_list;
	return 0;
}

static bool question_fits(const struct server *s, const struct policy_evaluate *q)
{
	return s->area && q->proposals_offset <= s->area_bytes &&
	       q->proposals_offset % _Alignof(struct memd_proposal) == 0 &&
	       q->n_guests <= (s->area_bytes - q->proposals_offset) / sizeof(struct memd_proposal);
}

static int answer_evaluate(struct server *s, struct ipc_message *m)
{
	const struct policy_evaluate *q = IPC_PAYLOAD(m, struct policy_evaluate);
	struct memd_host_view view = {0};
	struct policy_done done = {0};
	uint64_t begin_us;
	int r;

	if (!s->open || !q || m->n_fds > 1)
		return -EPROTO;
	r = m->n_fds == 1 ? take_area(s, m->fds[0], q->area_bytes) : 0;
	if (r == 0 && !question_fits(s, q))
		r = -EPROTO;
	if (r == 0)
		r = make_room(s, q->n_guests);
	if (r == 0)
		r = read_views(s, q, &view);
	if (r < 0)
		return r;
	begin_us = clock_thread_cpu_us();
	done.result = s->policy->evaluate(s->state, &view, s->proposal_list);
	if (done.result == -EPIPE)
		return done.result;
	done.cpu_us = clock_thread_cpu_us() - begin_us;
	memcpy(s->area + q->proposals_offset, s->proposals, q->n_guests * sizeof(*s->proposals));
	return ipc_send(s->fd, POLICY_DONE, m->header.seq, &done, sizeof(done), NULL, 0);
}

static int answer(struct server *s, struct ipc_message *m)
{
	switch (m->header.type) {
	case POLICY_SETTING:
		return take_setting(s, m);
	case POLICY_OPEN:
		return answer_open(s, m);
	case POLICY_EVALUATE:
		return answer_evaluate(s, m);
	default:
		return -EPROTO;
	}
}

static void server_done(struct server *s)
{
	if (s->open && s->policy->close)
		s->policy->close(s->state);
	if (s->area)
		munmap(s->area, s->area_bytes);
	free(s->views);
	free(s->view_list);
	free(s->proposals);
	free(s->proposal_list);
}

int serve(int fd, const struct memd_policy *policy, struct error *e)
{
	_cleanup_(ipc_message_freep) struct ipc_message *m = ipc_message_new();
	struct server s = {.fd = fd, .policy = policy};
	int r;

	if (!m)
		return -ENOMEM;
	s.calls = (struct memd_host_calls){.size = sizeof(s.calls), .log = on_log, .host = &s};
	do {
		r = ipc_recv(fd, m);
		if (r == 0)
			r = answer(&s, m);
	} while (r == 0);
	server_done(&s);
	if (r == IPC_CLOSED)
		return 0;
	return error_set(e, r, "%s", r == -EPIPE && s.said[0] ? s.said : strerror(-r));
}
