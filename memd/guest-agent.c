/* See guest-agent.h. */
#include "memd/guest-agent.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/log.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"
#include "memd/guest.h"

#define ATTACH_AGAIN_US (5 * US_PER_S)
#define ATTACH_NEVER_US UINT64_MAX
/* Asks are heeded no more often. */
#define ASK_AGAIN_US	(2 * US_PER_S)
/* Less more than before is not worth a question. */
#define ASK_MIN_BYTES	(1 * MIB)

static struct guest_agent *agent_of(struct guest *g)
{
	if (!g->agent) {
		g->agent = calloc(1, sizeof(*g->agent));
		if (g->agent)
			g->agent->guest = g;
	}
	return g->agent;
}

static bool is_present(const struct guest *g)
{
	return g->agent && g->agent->session &&
	       agent_session_state(g->agent->session) == SESSION_PRESENT;
}

/* What the balloon was last told to have, or has. */
static uint64_t balloon_bytes(const struct guest *g)
{
	return g->balloon_target_bytes != UINT64_MAX
		       ? g->balloon_target_bytes
		       : g->sample.after.balloon_actual_pages * PAGE_BYTES;
}

static void on_answer(void *context, uint32_t number, uint64_t bytes, const char *reason)
{
	struct guest_agent *a = context;
	uint64_t now_us = clock_monotonic_us();

	if (a->consent != CONSENT_ASKED)
		return;
	a->consent_us = now_us;
	a->consent = bytes ? CONSENT_GIVEN : CONSENT_NONE;
	a->granted_bytes = bytes;
	if (bytes) {
		a->grants++;
		return;
	}
	a->refusals++;
	a->refused_us = now_us;
	a->hold_until_us = now_us + AGENT_REFUSED_US;
	snprintf(a->refusal, sizeof(a->refusal), "%s", reason);
	log_info("guest %s: its agent refuses %s: %s; the balloon stays as it is for %d s",
		a->guest->name, UNITS_BYTES(a->wanted_bytes), reason,
		(int)(AGENT_REFUSED_US / US_PER_S));
}

/* Returns whether there is something new to say: a guest may repeat itself as fast as it likes. */
static bool note_wish(struct guest_agent *a, const char *reason, uint64_t now_us)
{
	bool anew = now_us - a->wished_us >= US_PER_S || strcmp(a->wish, reason) != 0;
	static struct log_ratelimit limit = LOG_RATELIMIT_INIT;

	a->wished_us = now_us;
	a->consent = CONSENT_NONE;
	snprintf(a->wish, sizeof(a->wish), "%s", reason);
	return anew && log_ratelimit_pass(&limit);
}

static void on_ask(void *context, uint64_t bytes, const char *reason)
{
	struct guest_agent *a = context;
	uint64_t now_us = clock_monotonic_us(), has = balloon_bytes(a->guest);

	a->asks++;
	if (note_wish(a, reason, now_us))
		log_info("guest %s: its agent asks for %s: %s; %s are in its balloon",
			a->guest->name, UNITS_BYTES(bytes), reason, UNITS_BYTES(has));
	if (a->given_us && now_us - a->given_us < ASK_AGAIN_US)
		return;
	a->given_us = now_us;
	a->hold_until_us = u64_max(a->hold_until_us, now_us + AGENT_ASKED_US);
	guest_send_balloon(a->guest, u64_align_down(u64_sub_or_zero(has, bytes), PAGE_BYTES));
}

static void on_distress(void *context, const char *reason)
{
	struct guest_agent *a = context;

	a->distresses++;
	a->distressed = true;
	if (note_wish(a, reason, clock_monotonic_us()))
		log_notice("guest %s is in distress, its agent says: %s; all of %s in its balloon "
			   "goes back",
			a->guest->name, reason, UNITS_BYTES(balloon_bytes(a->guest)));
	guest_send_balloon(a->guest, 0); /* else at the end of the one under way */
}

static void on_ended(void *context)
{
	struct guest_agent *a = context;

	agent_session_free(TAKE_PTR(a->session));
	a->consent = CONSENT_NONE;
	a->attach_again_us = clock_monotonic_us() + ATTACH_AGAIN_US;
}

static int take_channel(struct guest *g, int fd)
{
	static const struct agent_session_ops ops = {
		.answer = on_answer,
		.ask = on_ask,
		.distress = on_distress,
		.ended = on_ended,
	};
	struct guest_agent *a = agent_of(g);

	if (!a)
		return -ENOMEM;
	agent_session_free(TAKE_PTR(a->session));
	a->consent = CONSENT_NONE;
	return agent_session_new(g->environment->event, fd, &ops, a, &a->session);
}

/* A memd-vmm that has no such port will not have one later; else our end says how it went on. */
static void on_opened(void *context, int result, const struct refusal *refusal)
{
	struct guest_agent *a = context;

	if (result != -EOPNOTSUPP)
		return;
	agent_session_free(TAKE_PTR(a->session));
	a->attach_again_us = ATTACH_NEVER_US;
}

void guest_agent_keep(struct guest *g, uint64_t now_us)
{
	_cleanup_close_ int fd = -1;
	struct guest_agent *a;

	if (!g->ops->open_agent || !guest_is_up(g))
		return;
	a = agent_of(g);
	if (!a || a->session || now_us < a->attach_again_us)
		return;
	a->attach_again_us = now_us + ATTACH_AGAIN_US;
	fd = g->ops->open_agent(g, on_opened, a);
	if (fd >= 0 && take_channel(g, fd) == 0)
		TAKE_FD(fd);
}

void guest_agent_disconnect(struct guest *g)
{
	if (!g->agent)
		return;
	agent_session_free(TAKE_PTR(g->agent->session));
	g->agent->consent = CONSENT_NONE;
	g->agent->attach_again_us = 0;
}

void guest_agent_free(struct guest *g)
{
	if (!g->agent)
		return;
	agent_session_free(g->agent->session);
	free(g->agent->published);
	free(TAKE_PTR(g->agent));
}

const char *guest_agent_state(const struct guest *g)
{
	return g->agent && g->agent->session
		       ? session_state_name(agent_session_state(g->agent->session))
		       : "none";
}

const struct agent_message *guest_agent_report(const struct guest *g, uint64_t *ret_us)
{
	const struct agent_message *m;

	if (!is_present(g))
		return NULL;
	m = agent_session_report(g->agent->session, ret_us);
	return m->type && clock_monotonic_us() - *ret_us < SESSION_SILENT_US ? m : NULL;
}

uint64_t guest_agent_floor_bytes(const struct guest *g)
{
	uint64_t us, floor;
	const struct agent_message *m = guest_agent_report(g, &us);

	floor = m ? agent_get(m, AGENT_FLOOR, 0) : 0;
	if (!floor || g->judge.claims.distrusted)
		return 0;
	return u64_max(g->min_bytes, u64_min(floor, u64_min(g->max_bytes, g->config.memory_bytes)));
}

/* Whether it was asked: then its answer comes, or does not. */
static bool ask(struct guest_agent *a, uint64_t wanted_bytes, uint64_t has_bytes, uint64_t now_us)
{
	if (!agent_session_shrink(a->session, wanted_bytes - has_bytes, AGENT_WITHIN_US))
		return false;
	a->requests++;
	a->consent = CONSENT_ASKED;
	a->consent_us = now_us;
	a->wanted_bytes = wanted_bytes - has_bytes;
	a->balloon_bytes = has_bytes;
	return true;
}

uint64_t guest_agent_consent(struct guest *g, uint64_t wanted_bytes, uint64_t now_us)
{
	struct guest_agent *a = g->agent;
	uint64_t has = balloon_bytes(g), granted;

	if (!is_present(g) || g->judge.claims.distrusted)
		return UINT64_MAX;
	if (wanted_bytes < has + ASK_MIN_BYTES)
		return UINT64_MAX;
	if (now_us < a->hold_until_us)
		return has;
	if (a->consent == CONSENT_ASKED && now_us - a->consent_us < AGENT_PATIENCE_US)
		return has;
	if (a->consent == CONSENT_ASKED) { /* and speaks, but not of that */
		a->unanswered++;
		a->consent = CONSENT_GIVEN;
		a->consent_us = now_us;
		a->granted_bytes = a->wanted_bytes;
	}
	granted = a->balloon_bytes + a->granted_bytes;
	if (a->consent == CONSENT_GIVEN && now_us - a->consent_us < AGENT_GRANT_US &&
		has + ASK_MIN_BYTES <= granted)
		return granted;
	return ask(a, wanted_bytes, has, now_us) ? has : UINT64_MAX;
}

bool guest_agent_take_distress(struct guest *g)
{
	bool distressed = g->agent && g->agent->distressed;

	if (distressed)
		g->agent->distressed = false;
	return distressed;
}
