/*
 * What is asked of a guest, whoever runs it: whether that can be now, and what is noted of it. How
 * it is done is the provider's (struct guest_ops).
 */
#include <stdio.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/log.h"
#include "memd/guest-agent.h"
#include "memd/guest-internal.h"

bool guest_is_up(const struct guest *g)
{
	return g->ops->is_up(g);
}

pid_t guest_pid(const struct guest *g)
{
	if (g->child.pid)
		return g->child.pid;
	return g->process ? g->process->pid : 0;
}

const char *guest_cannot(const struct guest *g)
{
	return g->ops->cannot;
}

bool guest_is_left_alone(const struct guest *g)
{
	return g->config.memory_locked || g->left_alone[0];
}

bool guest_sample_begin(struct guest *g)
{
	g->sample.fresh = false;
	return guest_is_up(g) && g->sample.phase == GUEST_SAMPLE_IDLE && g->ops->sample_begin(g);
}

void guest_sample_cancel(struct guest *g)
{
	g->ops->sample_cancel(g);
	g->sample.phase = GUEST_SAMPLE_IDLE;
	g->sample.fresh = false;
}

void guest_sample_ended(struct guest *g, bool complete)
{
	g->sample.phase = GUEST_SAMPLE_IDLE;
	g->sample.fresh = complete;
	g->sample.valid |= complete;
	g->environment->sampled(g);
}

static int refuse_state(const struct guest *g, struct refusal *refusal)
{
	return refusal_set(refusal, REFUSAL_NOT_RUNNING, -ENOTCONN, "guest %s is %s", g->name,
		guest_state_name(g->state));
}

static int refuse_unsent(struct guest *g, int r, struct refusal *refusal)
{
	if (r == -ENOTCONN)
		return refuse_state(g, refusal);
	return refusal_set(refusal, REFUSAL_BUSY, r,
		"guest %s does not take commands now (%s); try again", g->name, strerror(-r));
}

static int refuse_foreign(const struct guest *g, const char *what, struct refusal *refusal)
{
	return refusal_set(refusal, REFUSAL_NOT_SUPPORTED, -EOPNOTSUPP,
		"memd does not %s guest %s, which is run by %s; %s", what, g->name,
		g->ops->provider, g->ops->instead);
}

static bool *pause_flag(struct guest *g, enum guest_pauser who)
{
	return who == GUEST_PAUSER_HOST ? &g->paused_by_host : &g->paused_by_operator;
}

int guest_pause(struct guest *g, enum guest_pauser who, const char *reason, guest_done_fn done,
	void *context, struct refusal *refusal)
{
	int r;

	if (!g->ops->pause)
		return refuse_foreign(g, "pause", refusal);
	if (g->state != GUEST_RUNNING && g->state != GUEST_PAUSED)
		return refuse_state(g, refusal);
	/* Asking again one that is paused does no harm, and gives everybody the same answer. */
	r = g->ops->pause(g, done, context);
	if (r < 0)
		return refuse_unsent(g, r, refusal);
	*pause_flag(g, who) = true;
	if (who == GUEST_PAUSER_HOST)
		g->paused_us = clock_monotonic_us();
	snprintf(g->pause_reason, sizeof(g->pause_reason), "%s", reason);
	return 0;
}

int guest_resume(struct guest *g, enum guest_pauser who, guest_done_fn done, void *context,
	struct refusal *refusal)
{
	enum guest_pauser other =
		who == GUEST_PAUSER_HOST ? GUEST_PAUSER_OPERATOR : GUEST_PAUSER_HOST;
	int r;

	if (!g->ops->resume)
		return refuse_foreign(g, "resume", refusal);
	*pause_flag(g, who) = false;
	if (*pause_flag(g, other))
		return refusal_set(refusal, REFUSAL_BUSY, -EBUSY, "guest %s stays paused: %s",
			g->name,
			other == GUEST_PAUSER_HOST
				? "the host is short of memory; it goes on when there is room"
				: "the operator paused it; `memctl resume` lets it go on");
	if (g->state != GUEST_RUNNING && g->state != GUEST_PAUSED)
		return refuse_state(g, refusal);
	r = g->ops->resume(g, done, context);
	return r < 0 ? refuse_unsent(g, r, refusal) : 0;
}

int guest_power_button(struct guest *g, guest_done_fn done, void *context, struct refusal *refusal)
{
	int r;

	if (!g->ops->power_button)
		return refuse_foreign(g, "power off", refusal);
	r = g->ops->power_button(g, done, context);
	return r < 0 ? refuse_unsent(g, r, refusal) : 0;
}

int guest_ask_hints(struct guest *g, guest_done_fn done, void *context, struct refusal *refusal)
{
	int r;

	if (!g->ops->ask_hints)
		return refuse_foreign(g, "ask for free memory", refusal);
	r = g->ops->ask_hints(g, done, context);
	return r < 0 ? refuse_unsent(g, r, refusal) : 0;
}

int guest_send_snapshot(struct guest *g, const int fds[2], guest_done_fn done, void *context,
	struct refusal *refusal)
{
	int r = g->ops->snapshot(g, fds, done, context);

	return r < 0 ? refuse_unsent(g, r, refusal) : 0;
}

int guest_may_snapshot(const struct guest *g, struct refusal *refusal)
{
	if (!g->ops->snapshot)
		return refuse_foreign(g, "snapshot", refusal);
	if (g->state != GUEST_RUNNING && g->state != GUEST_PAUSED)
		return refuse_state(g, refusal);
	return 0;
}

int guest_may_stop(const struct guest *g, struct refusal *refusal)
{
	return g->ops->stop ? 0 : refuse_foreign(g, "stop", refusal);
}

int guest_stop(struct guest *g, enum guest_stop_how how, guest_done_fn done, void *context)
{
	return g->ops->stop ? g->ops->stop(g, how, done, context) : -EOPNOTSUPP;
}

void guest_send_balloon(struct guest *g, uint64_t bytes)
{
	if (bytes == g->balloon_target_bytes || g->balloon_sending)
		return;
	if (g->ops->set_balloon(g, bytes) < 0)
		return;
	g->balloon_sending = true;
	g->balloon_target_bytes = bytes;
}

void guest_balloon_told(struct guest *g, int result)
{
	g->balloon_sending = false;
	if (result < 0)
		g->balloon_target_bytes = UINT64_MAX; /* unknown: sent again */
	if (g->agent && g->agent->distressed)
		guest_send_balloon(g, 0); /* cried while this was under way */
}

void guest_send_scan(struct guest *g, const struct vmm_set_scan *scan)
{
	int r = g->ops->set_scan ? g->ops->set_scan(g, scan) : 0;

	if (r < 0)
		log_warning("guest %s: cannot set up its scanner: %s", g->name, strerror(-r));
}

void guest_send_cpus(struct guest *g)
{
	const struct placement *p = &g->placement;
	struct vmm_set_cpus set = {.exclusive = p->exclusive};

	if (!g->ops->set_cpus)
		return;
	if (g->cpus_sent && g->cpus_sent_exclusive == p->exclusive &&
		CPU_EQUAL(&g->cpus_sent_set, &p->cpus))
		return;
	for (int i = 0; i < VMM_CPUS_MAX; i++)
		if (CPU_ISSET(i, &p->cpus))
			set.mask[i / 64] |= UINT64_C(1) << (i % 64);
	if (g->ops->set_cpus(g, &set) < 0)
		return;
	g->cpus_sent = true;
	g->cpus_sent_exclusive = p->exclusive;
	g->cpus_sent_set = p->cpus;
}
