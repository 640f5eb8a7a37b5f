/* See policy-child.h. */
#include "memd/policy-child.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "memd/base/fd.h"
#include "memd/base/ipc.h"
#include "memd/base/log.h"
#include "memd/base/text.h"
#include "memd/base/units.h"
#include "memd/child.h"
#include "memd/ipc-link.h"
#include "policy/policy-proto.h"
#include "policy/view-record.h"

/*
 * A question is never given up, only not waited for: that the answer comes late is what `busy`
 * tells. An hour is for ever.
 */
#define QUESTION_TIMEOUT_US UINT64_C(3600000000)
/* The shared memory grows by so much. */
#define AREA_STEP_BYTES	    (UINT64_C(256) << 10)

struct policy_child {
	const struct policy_child_ops *ops;
	void *context;
	struct memd_policy policy;
	struct memd_host_calls calls; /* host: this */
	struct child child;
	struct ipc_link *link;
	enum { CHILD_OPENING, CHILD_IDLE, CHILD_BUSY, CHILD_ANSWERED, CHILD_DEAD } phase;
	char name[64];
	char description[POLICY_TEXT_MAX];
	char fault[200];
	char death[CHILD_ERROR_MAX]; /* why we ended it, "" : it was not us */
	struct log_ratelimit log_limit;
	int area_fd;
	uint8_t *area;
	size_t area_bytes;
	bool area_is_new; /* to be sent with the next question */
	size_t proposals_offset;
	uint32_t n_guests; /* of the question */
	struct policy_done done;
};

static void kill_all(struct policy_child *c)
{
	pid_t pid = c->child.pid;

	if (pid <= 0)
		return;
	child_signal(&c->child, SIGKILL);
	/* What it started is in its group, which is its own since spawn_program made a session. */
	(void)kill(-pid, SIGKILL);
}

/* Ends it for a reason of ours; `ended` follows when it is gone. */
static void condemn(struct policy_child *c, const char *why)
{
	if (!c->death[0])
		snprintf(c->death, sizeof(c->death), "%s", why);
	kill_all(c);
}

/* Text of the other side, as a line for people. */
static void copy_text(char *to, size_t size, const struct policy_text *text)
{
	snprintf(to, size, "%.*s", (int)strnlen(text->text, sizeof(text->text)), text->text);
	text_clean(to);
}

static void on_message(void *context, const struct ipc_message *m)
{
	struct policy_child *c = context;
	const struct policy_text *text = IPC_PAYLOAD(m, struct policy_text);
	char line[POLICY_TEXT_MAX];

	if (m->header.type != POLICY_LOG || !text || m->n_fds > 0) {
		condemn(c, "it sent what is no message of a policy");
		return;
	}
	if (!log_ratelimit_pass(&c->log_limit))
		return;
	copy_text(line, sizeof(line), text);
	/* Nothing that a policy says is an emergency of the host's. */
	log_write(text->code < LOG_LEVEL_WARNING ? LOG_LEVEL_WARNING : (enum log_level)text->code,
		"policy %s: %s", c->name, line);
}

static void on_link_closed(void *context, int error)
{
	struct policy_child *c = context;

	ipc_link_free(c->link);
	c->link = NULL;
	if (error < 0)
		condemn(c, "it broke the protocol");
	else
		kill_all(c); /* it may have closed its socket and live on */
}

static const struct ipc_link_ops link_ops = {
	.message = on_message,
	.closed = on_link_closed,
};

static void on_child_ended(void *context, int code, const char *reason)
{
	struct policy_child *c = context;
	char why[CHILD_ERROR_MAX];
	bool opening = c->phase == CHILD_OPENING;

	snprintf(why, sizeof(why), "%s", c->death[0] ? c->death : reason);
	text_clean(why);
	c->phase = CHILD_DEAD;
	if (opening)
		c->ops->opened(c->context, -EPIPE, why);
	else
		c->ops->ended(c->context, why);
}

static void on_opened(void *context, int error, const struct ipc_message *m)
{
	struct policy_child *c = context;
	const struct policy_text *text = m ? IPC_PAYLOAD(m, struct policy_text) : NULL;
	char why[POLICY_TEXT_MAX];

	if (error == -ETIMEDOUT)
		condemn(c, "it did not open within 10 s");
	if (error < 0) /* a closed connection: how the process ended says more */
		return;
	if (!text || (m->header.type != POLICY_READY && m->header.type != POLICY_REFUSED)) {
		condemn(c, "it broke the protocol");
		return;
	}
	if (m->header.type == POLICY_READY) {
		copy_text(c->description, sizeof(c->description), text);
		c->phase = CHILD_IDLE;
		c->ops->opened(c->context, 0, "");
		return;
	}
	copy_text(why, sizeof(why), text);
	c->phase = CHILD_DEAD;
	c->ops->opened(c->context, -EINVAL, why);
}

/* Asking. */

static int make_area(struct policy_child *c, size_t bytes)
{
	_cleanup_close_ int fd = memfd_create("memd-policy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t area_bytes = (bytes / AREA_STEP_BYTES + 1) * AREA_STEP_BYTES;
	void *area;

	/* A file that its other holder could cut would end us at the next access. */
	if (fd < 0 || ftruncate(fd, (off_t)area_bytes) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	area = mmap(NULL, area_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (area == MAP_FAILED)
		return -errno;
	if (c->area)
		munmap(c->area, c->area_bytes);
	cleanup_closep(&c->area_fd);
	c->area = area;
	c->area_bytes = area_bytes;
	c->area_fd = TAKE_FD(fd);
	c->area_is_new = true;
	return 0;
}

static int write_views(struct policy_child *c, const struct memd_host_view *view)
{
	size_t records = view_record_host_bytes(), align = _Alignof(struct memd_proposal);
	size_t n, bytes;

	for (uint32_t i = 0; i < view->n_guests; i++)
		records += view_record_guest_bytes(view->guests[i]);
	c->proposals_offset = (records + align - 1) / align * align;
	bytes = c->proposals_offset + view->n_guests * sizeof(struct memd_proposal);
	if (bytes > c->area_bytes) {
		int r = make_area(c, bytes);

		if (r < 0)
			return r;
	}
	n = view_record_put_host(view, c->area);
	for (uint32_t i = 0; i < view->n_guests; i++)
		n += view_record_put_guest(view->guests[i], c->area + n);
	return 0;
}

static void on_answer(void *context, int error, const struct ipc_message *m)
{
	struct policy_child *c = context;
	const struct policy_done *done = m ? IPC_PAYLOAD(m, struct policy_done) : NULL;

	if (error < 0)
		return; /* closed: the process's end is reported */
	if (!done || m->header.type != POLICY_DONE || m->n_fds > 0) {
		condemn(c, "it broke the protocol");
		return;
	}
	c->done = *done;
	c->phase = CHILD_ANSWERED;
	c->ops->answered(c->context);
}

static int ask(struct policy_child *c, const struct memd_host_view *view)
{
	struct policy_evaluate question = {0};
	int r;

	if (!c->link) /* closed; the process's end follows */
		return -EPIPE;
	r = write_views(c, view);
	if (r < 0)
		return r;
	question.area_bytes = c->area_bytes;
	question.proposals_offset = c->proposals_offset;
	question.n_guests = c->n_guests = view->n_guests;
	r = ipc_link_request(c->link, POLICY_EVALUATE, &question, sizeof(question), &c->area_fd,
		c->area_is_new ? 1 : 0, QUESTION_TIMEOUT_US, on_answer, c);
	if (r < 0)
		return r;
	c->area_is_new = false;
	c->phase = CHILD_BUSY;
	return -EINPROGRESS;
}

/* What no policy in its right mind proposes, in c->fault. */
static bool is_usable(
	struct policy_child *c, const struct memd_guest_view *g, const struct memd_proposal *p)
{
	if (g->flags & MEMD_GUEST_TARGET_FIXED)
		return true;
	if (p->target_bytes == 0 || p->target_bytes > g->configured_bytes)
		snprintf(c->fault, sizeof(c->fault),
			"guest %s: it proposed %" PRIu64 " bytes for a guest of %" PRIu64, g->name,
			p->target_bytes, g->configured_bytes);
	else if (p->reason[0] == '\0')
		snprintf(c->fault, sizeof(c->fault), "guest %s: it gave no reason", g->name);
	else
		return true;
	return false;
}

static int take_proposals(struct policy_child *c, const struct memd_host_view *view,
	struct memd_proposal *const *proposals)
{
	const struct memd_proposal *given = (const void *)(c->area + c->proposals_offset);

	c->phase = CHILD_IDLE;
	if (c->done.result < 0) {
		snprintf(c->fault, sizeof(c->fault), "it failed: %s", strerror(-c->done.result));
		return c->done.result == -EINPROGRESS ? -EBADMSG : c->done.result;
	}
	if (view->n_guests != c->n_guests)
		return -EINVAL;
	for (uint32_t i = 0; i < view->n_guests; i++) {
		struct memd_proposal p;

		memcpy(&p, &given[i], sizeof(p)); /* once: it may still be written to */
		p.reason[MEMD_REASON_MAX - 1] = '\0';
		if (!is_usable(c, view->guests[i], &p))
			return -EBADMSG;
		proposals[i]->target_bytes = p.target_bytes;
		memcpy(proposals[i]->reason, p.reason, sizeof(p.reason));
	}
	return 0;
}

static int child_open(const struct memd_host_calls *calls, void **ret_state)
{
	*ret_state = calls->host;
	return 0;
}

static int child_evaluate(
	void *state, const struct memd_host_view *view, struct memd_proposal *const *proposals)
{
	struct policy_child *c = state;

	switch (c->phase) {
	case CHILD_IDLE:
		c->fault[0] = '\0';
		return ask(c, view);
	case CHILD_ANSWERED:
		return take_proposals(c, view, proposals);
	case CHILD_BUSY:
		return -EBUSY;
	default:
		return -EPIPE;
	}
}

/* The policy itself says what it has to say by messages. */
static void log_nothing(void *host, int level, const char *line)
{
}

/* Starting. */

static int send_settings(int fd, const struct policy_child_options *o, struct error *e)
{
	for (size_t i = 0; i < o->n_settings; i++) {
		const struct policy_setting *s = &o->settings[i];
		_cleanup_free_ char *pair = NULL;
		int n = asprintf(&pair, "%s%c%s", s->key, '\0', s->value);
		int r;

		if (n < 0) {
			pair = NULL;
			return -ENOMEM;
		}
		r = ipc_send(fd, POLICY_SETTING, 0, pair, (size_t)n + 1, NULL, 0);
		if (r < 0)
			return error_set(e, r, "[Policy %s]: its settings cannot be sent: %s",
				o->name, strerror(-r));
	}
	return 0;
}

static int start(struct policy_child *c, const struct policy_child_options *o, struct error *e)
{
	char *plugin[] = {(char *)(uintptr_t)o->program, (char *)(uintptr_t) "--plugin",
		(char *)(uintptr_t)o->directory, (char *)(uintptr_t)o->name, NULL};
	char *exec[] = {(char *)(uintptr_t)o->program, (char *)(uintptr_t) "--exec",
		(char *)(uintptr_t)o->command, NULL};
	struct spawn_request request = {
		.argv = o->command ? exec : plugin, .procs_fd = -1, .keep_error_fd = 1};
	_cleanup_close_ int ours = -1, theirs = -1;
	int fds[2], r;

	r = ipc_pair(fds);
	if (r < 0)
		return r;
	ours = fds[0];
	theirs = request.socket_fd = fds[1];
	r = fd_set_nonblock(ours, true);
	if (r == 0)
		r = child_spawn(&c->child, o->event, &request, NULL, on_child_ended, c, e);
	if (r == 0)
		r = send_settings(ours, o, e);
	if (r == 0)
		r = ipc_link_new(o->event, ours, &link_ops, c, &c->link);
	if (r < 0)
		return r;
	TAKE_FD(ours);
	return ipc_link_request(
		c->link, POLICY_OPEN, NULL, 0, NULL, 0, POLICY_OPEN_TIMEOUT_US, on_opened, c);
}

int policy_child_new(
	const struct policy_child_options *options, struct policy_child **ret, struct error *e)
{
	_cleanup_(policy_child_freep) struct policy_child *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	*c = (struct policy_child){
		.ops = options->ops,
		.context = options->context,
		.child = CHILD_INIT,
		.log_limit = LOG_RATELIMIT_INIT,
		.area_fd = -1,
	};
	snprintf(c->name, sizeof(c->name), "%s", options->name);
	c->calls =
		(struct memd_host_calls){.size = sizeof(c->calls), .log = log_nothing, .host = c};
	c->policy = (struct memd_policy){
		.size = sizeof(c->policy),
		.api_version = MEMD_POLICY_API_VERSION,
		.name = c->name,
		.description = c->description,
		.open = child_open,
		.evaluate = child_evaluate,
	};
	r = start(c, options, e);
	if (r < 0)
		return error_set(
			e, r, "the policy %s cannot be started: %s", options->name, strerror(-r));
	*ret = TAKE_PTR(c);
	return 0;
}

void policy_child_free(struct policy_child *c)
{
	if (!c)
		return;
	ipc_link_free(c->link);
	kill_all(c);
	child_abandon(&c->child);
	if (c->area)
		munmap(c->area, c->area_bytes);
	cleanup_closep(&c->area_fd);
	free(c);
}

const struct memd_policy *policy_child_policy(const struct policy_child *c)
{
	return &c->policy;
}

const struct memd_host_calls *policy_child_calls(const struct policy_child *c)
{
	return &c->calls;
}

const char *policy_child_fault(const struct policy_child *c)
{
	return c->fault;
}

const char *policy_child_description(const struct policy_child *c)
{
	return c->description;
}

void policy_child_discard(struct policy_child *c)
{
	if (c->phase == CHILD_ANSWERED)
		c->phase = CHILD_IDLE;
}

bool policy_child_busy(const struct policy_child *c)
{
	return c->phase == CHILD_BUSY;
}

uint64_t policy_child_cpu_us(const struct policy_child *c)
{
	return c->done.cpu_us;
}

pid_t policy_child_pid(const struct policy_child *c)
{
	return c->child.pid;
}
