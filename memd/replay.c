/*
 * See replay.h.
 *
 * DOC: what a replay is, and is not
 *
 * Figures are those that were recorded: what a guest would have cost under other targets is not
 * known. Targets are the replayed policy's own, so that filters with a memory (step, dead band) act
 * as they would have. Hence with the policy and the settings that were recorded, a replay decides
 * exactly what was decided, from the first tick that is known; with another, the first targets show
 * what it would have begun to do, and the later ones where it would have wanted to go.
 */
#include "memd/replay-internal.h"

#include <string.h>

#include "memd/base/clock.h"

/* Nobody waits for a replay, but it shall end. */
#define LIMIT_US	      (10 * US_PER_S)
/* A policy with a memory is shown so much of the past before it is asked what if. */
#define WHAT_IF_TICKS	      120
/* And so much of the other world: averages follow. */
#define WHAT_IF_CHANGED_TICKS 30

struct replay {
	const struct replay_options *options;
	struct host_config config;
	sd_event *event;
	struct policy_run *run;
	bool decided;
	char set_aside[512]; /* "": it is not */
	/* of the last tick, in the order of its guests, which is by id */
	struct policy_decision *decisions;
	uint64_t *ids;
	size_t n, n_room;
	uint64_t last_number;
	struct replay_summary summary;
};

static void on_decided(void *context, const struct policy_outcome *outcome)
{
	struct replay *p = context;

	memcpy(p->decisions, outcome->decisions, outcome->n * sizeof(*p->decisions));
	p->decided = true;
}

static void on_set_aside(void *context, const char *why)
{
	struct replay *p = context;

	snprintf(p->set_aside, sizeof(p->set_aside), "%s", why);
}

static const struct policy_run_ops run_ops = {
	.decided = on_decided,
	.set_aside = on_set_aside,
};

static int open_run(struct replay *p, struct error *e)
{
	struct policy_run_options options = {
		.event = p->event,
		.program = p->options->program,
		.config = &p->config,
		.ops = &run_ops,
		.context = p,
	};
	int r;

	policy_run_free(p->run);
	p->run = NULL;
	r = policy_run_new(&options, &p->run, e);
	return r < 0 ? r : policy_run_wait(p->run, e);
}

static int set_up(struct replay *p, struct error *e)
{
	int r;

	r = sd_event_new(&p->event);
	if (r >= 0)
		r = replay_choose_policy(p->options, &p->config, e);
	return r < 0 ? r : open_run(p, e);
}

static void tear_down(struct replay *p)
{
	policy_run_free(p->run);
	host_config_done(&p->config);
	sd_event_unref(p->event);
	free(p->decisions);
	free(p->ids);
	free(p->summary.guests);
}

/* The replay's own target from the tick before; false: it has none of that guest. */
static bool former_target(const struct replay *p, uint64_t id, size_t *at, uint64_t *ret)
{
	while (*at < p->n && p->ids[*at] < id)
		++*at;
	if (*at == p->n || p->ids[*at] != id)
		return false;
	*ret = p->decisions[*at].target_bytes;
	return true;
}

static struct policy_guest *build_input(const struct replay *p, const struct journal_record *r)
{
	struct policy_guest *in = calloc((size_t)r->tick.n_guests + 1, sizeof(*in));
	size_t at = 0;

	for (uint32_t i = 0; in && i < r->tick.n_guests; i++) {
		in[i].view = r->guests[i].view;
		in[i].fixed_bytes = r->guests[i].figures.fixed_bytes;
		in[i].group = r->guests[i].figures.group; /* "" is nobody's */
		former_target(p, in[i].view.id, &at, &in[i].view.target_bytes);
	}
	return in;
}

static int make_room(struct replay *p, size_t n)
{
	if (n <= p->n_room)
		return 0;
	if (!GROW_ARRAY(p->decisions, n) || !GROW_ARRAY(p->ids, n))
		return -ENOMEM;
	p->n_room = n;
	return 0;
}

static int decide(struct replay *p, const struct journal_record *r, struct error *e)
{
	_cleanup_free_ struct policy_guest *in = build_input(p, r);
	int result = in ? make_room(p, r->tick.n_guests) : -ENOMEM;

	if (result < 0)
		return result;
	p->n = r->tick.n_guests;
	for (size_t i = 0; i < p->n; i++)
		p->ids[i] = in[i].view.id;
	p->decided = false;
	result = policy_run_evaluate(p->run, &r->host, in, p->n, LIMIT_US);
	while (result >= 0 && !p->decided)
		result = sd_event_run(p->event, UINT64_MAX);
	if (result < 0)
		return result;
	if (p->set_aside[0])
		return error_set(
			e, -EIO, "the policy %s was set aside: %s", p->config.policy, p->set_aside);
	return 0;
}

/* Another run of memd: guests have other ids, and whatever a policy remembers is of no use. */
static int notice_restart(struct replay *p, const struct journal_record *r, struct error *e)
{
	bool restarted = p->summary.n_ticks > 0 && r->tick.number <= p->last_number;

	p->last_number = r->tick.number;
	if (!restarted)
		return 0;
	p->n = 0;
	p->summary.n_restarts++;
	return open_run(p, e);
}

/* hint: where it was in the tick before, mostly. */
static struct replay_guest_sum *find_sum(struct replay_summary *s, const char *name, size_t hint)
{
	if (hint < s->n_guests && strcmp(s->guests[hint].name, name) == 0)
		return &s->guests[hint];
	for (size_t i = 0; i < s->n_guests; i++)
		if (strcmp(s->guests[i].name, name) == 0)
			return &s->guests[i];
	if (!GROW_ARRAY(s->guests, s->n_guests + 1))
		return NULL;
	s->guests[s->n_guests] = (struct replay_guest_sum){0};
	snprintf(s->guests[s->n_guests].name, sizeof(s->guests[0].name), "%s", name);
	return &s->guests[s->n_guests++];
}

static int sum_up(struct replay *p, const struct journal_record *r)
{
	struct replay_summary *s = &p->summary;

	s->last_us = r->tick.realtime_us;
	if (s->n_ticks++ == 0)
		s->first_us = r->tick.realtime_us;
	for (uint32_t i = 0; i < r->tick.n_guests; i++) {
		struct replay_guest_sum *g = find_sum(s, r->guests[i].view.name, i);
		uint64_t recorded = r->guests[i].figures.decided_bytes;
		uint64_t replayed = p->decisions[i].target_bytes;
		uint64_t differ = recorded > replayed ? recorded - replayed : replayed - recorded;

		if (!g)
			return -ENOMEM;
		g->n++;
		g->recorded_bytes += recorded;
		g->replayed_bytes += replayed;
		g->recorded_last_bytes = recorded;
		g->replayed_last_bytes = replayed;
		if (differ > g->most_bytes)
			g->most_bytes = differ;
		s->n_decisions++;
		s->n_differ += differ != 0;
	}
	return 0;
}

static int replay_tick(struct replay *p, const struct journal_record *r, enum replay_detail detail,
	struct error *e)
{
	int result = notice_restart(p, r, e);

	if (result == 0)
		result = decide(p, r, e);
	if (result == 0)
		result = sum_up(p, r);
	if (result == 0 && detail == REPLAY_TICKS)
		replay_print_tick(p->options->out, r, p->decisions);
	return result;
}

int replay_run(const struct replay_options *options, enum replay_detail detail, struct error *e)
{
	struct replay p = {.options = options};
	struct replay_source source = {.options = options};
	struct journal_record record;
	int r = set_up(&p, e);

	while (r == 0 && (r = replay_next(&source, &record, e)) == 0) {
		r = replay_tick(&p, &record, detail, e);
		journal_record_done(&record);
	}
	replay_source_done(&source);
	if (r == REPLAY_END && p.summary.n_ticks == 0)
		r = error_set(e, -ENODATA, "there is no tick in the journal");
	if (r == REPLAY_END) {
		p.summary.policy = p.config.policy;
		p.summary.damaged_bytes = source.damaged_bytes;
		replay_print_summary(options->out, &p.summary);
	}
	tear_down(&p);
	return r < 0 ? r : 0;
}

/* What if. */

struct change {
	const char *what;
	void (*make)(struct memd_host_view *host, struct journal_record_guest *g);
};

static void make_nothing(struct memd_host_view *host, struct journal_record_guest *g)
{
}

static void make_shares(struct memd_host_view *host, struct journal_record_guest *g)
{
	g->view.shares *= 2;
}

static void make_budget(struct memd_host_view *host, struct journal_record_guest *g)
{
	host->budget_bytes += host->budget_bytes / 10;
}

static void make_usage_less(struct memd_host_view *host, struct journal_record_guest *g)
{
	g->view.resident_bytes -= g->view.resident_bytes / 4;
	g->view.working_set_bytes -= g->view.working_set_bytes / 4;
}

static void make_usage_more(struct memd_host_view *host, struct journal_record_guest *g)
{
	g->view.resident_bytes += g->view.resident_bytes / 4;
	g->view.working_set_bytes += g->view.working_set_bytes / 4;
}

static void make_floor(struct memd_host_view *host, struct journal_record_guest *g)
{
	g->view.min_bytes /= 2;
}

static void make_automatic(struct memd_host_view *host, struct journal_record_guest *g)
{
	g->view.flags &= ~MEMD_GUEST_TARGET_FIXED;
	g->figures.fixed_bytes = 0;
}

static const struct change changes[] = {
	{"as it is", make_nothing},
	{"with twice its shares", make_shares},
	{"with a tenth more budget for the host", make_budget},
	{"if it used a quarter less", make_usage_less},
	{"if it used a quarter more", make_usage_more},
	{"with half its MemoryMin=", make_floor},
	{"without the operator's target", make_automatic},
};

/* The last ticks of the journals, each in its own memory. */
struct past {
	struct journal_record records[WHAT_IF_TICKS];
	uint8_t *payloads[WHAT_IF_TICKS];
	uint64_t n; /* seen */
};

static void past_done(struct past *past)
{
	for (size_t i = 0; i < WHAT_IF_TICKS; i++) {
		journal_record_done(&past->records[i]);
		free(past->payloads[i]);
	}
}

/* Copies the record into its own bytes: those it lies in are the reader's. */
static int remember(struct past *past, const struct journal_record *r)
{
	size_t at = past->n % WHAT_IF_TICKS, bytes;
	uint8_t *frame;
	int result = journal_encode_tick(r, &frame, &bytes);

	if (result < 0)
		return result;
	journal_record_done(&past->records[at]);
	free(past->payloads[at]);
	past->payloads[at] = frame;
	past->n++;
	return journal_decode_tick(frame + sizeof(struct journal_frame_header),
		((const struct journal_frame_header *)(const void *)frame)->payload_bytes,
		&past->records[at]);
}

static int read_past(const struct replay_options *o, struct past *past, struct error *e)
{
	struct replay_source source = {.options = o};
	uint64_t last_number = 0;
	struct journal_record record;
	int r;

	while ((r = replay_next(&source, &record, e)) == 0) {
		if (record.tick.number <= last_number) /* of another run of memd */
			past->n = 0;
		last_number = record.tick.number;
		r = remember(past, &record);
		journal_record_done(&record);
		if (r < 0)
			break;
	}
	replay_source_done(&source);
	if (r == REPLAY_END && past->n == 0)
		return error_set(e, -ENODATA, "there is no tick in the journal");
	return r < 0 ? r : 0;
}

/* The record with the change made to that guest, for a moment. */
static int decide_changed(struct replay *p, struct journal_record *r, const char *name,
	const struct change *change, struct error *e)
{
	struct memd_host_view host = r->host;
	struct journal_record_guest *g =
		(struct journal_record_guest *)(uintptr_t)journal_record_find(r, name);
	struct journal_record_guest before;
	int result;

	if (!g)
		return decide(p, r, e);
	before = *g;
	change->make(&r->host, g);
	result = decide(p, r, e);
	r->host = host;
	*g = before;
	return result;
}

/* What is decided at the end of the past with that change in its last part. */
static int try_change(struct replay *p, struct past *past, const char *name,
	const struct change *change, struct policy_decision *ret, struct error *e)
{
	uint64_t first = past->n > WHAT_IF_TICKS ? past->n - WHAT_IF_TICKS : 0;
	const struct journal_record *last = &past->records[(past->n - 1) % WHAT_IF_TICKS];
	const struct journal_record_guest *g = journal_record_find(last, name);
	int r = open_run(p, e);

	if (!g)
		return error_set(
			e, -ENOENT, "guest %s is not in the last tick of the journal", name);
	p->n = 0;
	for (uint64_t i = first; r == 0 && i < past->n; i++) {
		struct journal_record *record = &past->records[i % WHAT_IF_TICKS];

		if (i + WHAT_IF_CHANGED_TICKS >= past->n)
			r = decide_changed(p, record, name, change, e);
		else
			r = decide(p, record, e);
	}
	if (r == 0)
		*ret = p->decisions[g - last->guests];
	return r;
}

static void print_what_if(FILE *out, const char *what, const struct policy_decision *now,
	const struct policy_decision *d)
{
	fprintf(out,
		"{\"type\":\"what-if\",\"what\":\"%s\",\"now_bytes\":%llu,\"then_bytes\":%llu,"
		"\"reason\":",
		what, (unsigned long long)now->proposed_bytes,
		(unsigned long long)d->proposed_bytes);
	replay_print_text(out, d->reason);
	fputs("}\n", out);
}

int replay_what_if(const struct replay_options *options, const char *guest, struct error *e)
{
	struct replay p = {.options = options};
	struct past *past = calloc(1, sizeof(*past));
	struct policy_decision now, then;
	int r = past ? set_up(&p, e) : -ENOMEM;

	if (r == 0)
		r = read_past(options, past, e);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(changes); i++) {
		r = try_change(&p, past, guest, &changes[i], &then, e);
		if (i == 0)
			now = then;
		else if (r == 0)
			print_what_if(options->out, changes[i].what, &now, &then);
	}
	if (past)
		past_done(past);
	free(past);
	tear_down(&p);
	return r;
}
