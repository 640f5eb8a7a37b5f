/*
 * The middle of the tick: what a policy is shown, and what becomes of what it proposes. Which policy
 * decides, and how long it may take, is policy-run.c's.
 */
#include <stdio.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/log.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"
#include "memd/bus.h"
#include "memd/guest-agent.h"
#include "memd/manager.h"
#include "memd/pageout.h"

static struct policy_guest policy_input(struct guest *g)
{
	const struct ledger_guest *l = &g->ledger;
	const struct vmm_stats *s = &g->sample.after;
	struct memd_guest_view view = {
		.name = g->name,
		.id = g->id,
		.shares = g->config.shares,
		.configured_bytes = g->config.memory_bytes,
		.min_bytes = g->min_bytes,
		.max_bytes = g->max_bytes,
		.target_bytes = g->target_bytes,
		.resident_bytes = l->resident_bytes,
		.swapped_bytes = l->swapped_bytes,
		.saved_sharing_bytes = l->saved_sharing_bytes,
		.hole_bytes = l->hole_untouched_bytes + l->hole_zero_bytes + l->hole_balloon_bytes +
			      l->hole_reported_bytes + l->hole_hinted_bytes,
		.balloon_bytes = s->balloon_actual_pages * PAGE_BYTES,
		.refault_bytes = g->reclaim.refault_pages_last * PAGE_BYTES,
		.claimed_available_bytes = judge_claimed_bytes(g),
		.claimed_floor_bytes = guest_agent_floor_bytes(g),
		.working_set_bytes = g->wss.figures.bytes,
		.working_set_slow_bytes = g->wss.figures.slow_bytes,
		.working_set_fast_bytes = g->wss.figures.fast_bytes,
		.working_set_error_bytes = g->wss.figures.error_bytes,
		.stall_some_10_bp = g->stall.figures.some_10_bp,
		.stall_some_60_bp = g->stall.figures.some_60_bp,
		.stall_full_10_bp = g->stall.figures.full_10_bp,
		.stall_full_60_bp = g->stall.figures.full_60_bp,
		.critical_bytes = g->critical_bytes,
	};

	if (s->balloon_ready)
		view.flags |= MEMD_GUEST_BALLOON_READY;
	if (g->process && g->process->n_regions)
		view.flags |= MEMD_GUEST_CAN_PAGE;
	if (g->sample.fresh && judge_claimed_us(g))
		view.flags |= MEMD_GUEST_CLAIMS_VALID;
	if (g->state == GUEST_PAUSED)
		view.flags |= MEMD_GUEST_PAUSED;
	if (g->fixed_bytes)
		view.flags |= MEMD_GUEST_TARGET_FIXED;
	if (g->wss.figures.valid)
		view.flags |= MEMD_GUEST_WORKING_SET_VALID;
	if (strcmp(guest_agent_state(g), "present") == 0)
		view.flags |= MEMD_GUEST_HAS_AGENT;
	if (judge_in_distress(g))
		view.flags |= MEMD_GUEST_DISTRESS;
	if (g->judge.claims.distrusted)
		view.flags |= MEMD_GUEST_DISTRUSTED;
	return (struct policy_guest){
		.view = view,
		.fixed_bytes = g->fixed_bytes,
		.group = guest_config_policy_group(&g->config),
	};
}

static void take_decision(struct guest *g, const struct policy_decision *d)
{
	if (d->target_bytes != g->target_bytes)
		log_debug("guest %s: target %s -> %s: %s", g->name, UNITS_BYTES(g->target_bytes),
			UNITS_BYTES(d->target_bytes), d->reason);
	g->target_bytes = d->target_bytes;
	snprintf(g->target_reason, sizeof(g->target_reason), "%s", d->reason);
}

/*
 * Guests may have come and gone while the policy thought. Both lists ascend by id: *at is where the
 * one before was found, 0 for the first.
 */
static struct guest *find_guest(const struct manager *m, uint64_t id, size_t *at)
{
	while (*at < m->n_guests && m->guests[*at]->id < id)
		++*at;
	return *at < m->n_guests && m->guests[*at]->id == id ? m->guests[*at] : NULL;
}

/* What the guest's figures are beside its view; g is NULL when it is gone. */
static struct journal_guest guest_figures(
	const struct policy_guest *in, const struct policy_decision *d, const struct guest *g)
{
	struct journal_guest f = {
		.proposed_bytes = d->proposed_bytes,
		.decided_bytes = d->target_bytes,
		.fixed_bytes = in->fixed_bytes,
		.clamps = d->clamps,
	};

	if (in->group)
		snprintf(f.group, sizeof(f.group), "%s", in->group);
	if (!g)
		return f;
	for (int i = 0; i < LADDER_RUNGS; i++) {
		f.free_ns[i] = ladder_free_ns(&g->judge.ladder, (enum ladder_rung)i);
		f.back_ns[i] = ladder_back_ns(&g->judge.ladder, (enum ladder_rung)i);
		f.rank[i] = (uint8_t)ladder_rank(&g->judge.ladder, (enum ladder_rung)i);
	}
	f.mismatch_bp = g->ledger.mismatch_bp;
	f.balloon_target_bytes = g->balloon_target_bytes;
	f.page_out_bytes = g->pageout ? g->pageout->n_regions * CHUNK_BYTES : 0;
	f.paged_out_bytes = g->reclaim.out_pages_last * PAGE_BYTES;
	f.private_bytes = g->ledger.private_bytes;
	f.shared_bytes = g->ledger.shared_bytes;
	f.shared_cost_bytes = g->ledger.shared_cost_bytes;
	f.overhead_bytes = g->ledger.overhead_bytes;
	f.refault_bytes = g->reclaim.refault_pages * PAGE_BYTES;
	f.scan_cpu_us = g->sample.after.scan_cpu_us;
	f.major_faults = g->sample.after.guest_major_faults;
	return f;
}

/*
 * Keeps the tick as a frame of the journal: the one that is written is the one that is explained.
 * Without memory this tick is in neither.
 */
static void keep_record(struct manager *m, const struct policy_outcome *outcome)
{
	struct journal_record record = {
		.tick = {.n_guests = (uint32_t)outcome->n,
			.number = m->figures.ticks + 1, /* as tick_report will count it */
			.realtime_us = clock_realtime_us(),
			.wait_us = outcome->wait_us,
			.policy_cpu_us = outcome->policy_cpu_us,
			.flags = outcome->fell_back ? JOURNAL_TICK_FELL_BACK : 0,
			.mismatch_bp = m->ledger.mismatch_bp},
		.policy = outcome->policy,
		.host = *outcome->host,
		.guests = calloc(outcome->n + 1, sizeof(*record.guests)),
	};
	uint8_t *frame;
	size_t at = 0, n;

	record.host.n_guests = (uint32_t)outcome->n;
	for (size_t i = 0; record.guests && i < outcome->n; i++) {
		const struct policy_guest *in = &outcome->guests[i];

		record.guests[i] = (struct journal_record_guest){
			.view = in->view,
			.figures = guest_figures(
				in, &outcome->decisions[i], find_guest(m, in->view.id, &at)),
			.reason = outcome->decisions[i].reason,
		};
	}
	if (record.guests && journal_encode_tick(&record, &frame, &n) == 0) {
		free(m->last_frame);
		m->last_frame = frame;
		m->last_frame_bytes = n;
		journal_write_tick(m->journal, frame, n);
	}
	journal_record_done(&record);
}

static void on_decided(void *context, const struct policy_outcome *outcome)
{
	struct manager *m = context;
	size_t at = 0;

	for (size_t i = 0; i < outcome->n; i++) {
		struct guest *g = find_guest(m, outcome->guests[i].view.id, &at);

		if (g)
			take_decision(g, &outcome->decisions[i]);
	}
	m->figures.policy_wait_us = outcome->wait_us;
	m->figures.policy_cpu_us = outcome->policy_cpu_us;
	tick_act(m);
	keep_record(m, outcome);
	tick_report(m);
}

void decide_show_policy(struct manager *m)
{
	struct host_figures *f = &m->figures;

	f->policy_chosen = policy_run_name(m->policy);
	f->policy_set_aside = policy_run_set_aside_reason(m->policy);
	f->policy = f->policy_set_aside[0] ? POLICY_FALLBACK : f->policy_chosen;
	f->policy_pid = (uint32_t)policy_run_pid(m->policy);
}

/* Appends the section's lines for that group; ret NULL: counts them. */
static size_t add_group_settings(const char *group, const struct config_section *section,
	struct journal_group_setting *ret, size_t n)
{
	for (size_t i = 0; section && i < section->n_pairs; i++, n++)
		if (ret)
			ret[n] = (struct journal_group_setting){
				group, section->pairs[i].key, section->pairs[i].value};
	return n;
}

/* All that decides for groups: what holds for any guest under its policy, then the group's own. */
static size_t group_settings(const struct host_config *c, struct journal_group_setting *ret)
{
	size_t n = 0;

	for (size_t i = 0; i < c->n_groups; i++) {
		const struct config_section *g = &c->groups[i];

		n = add_group_settings(
			g->name, host_config_policy(c, config_group_policy(g)), ret, n);
		n = add_group_settings(g->name, g, ret, n);
	}
	return n;
}

/* The policy of that name as it is configured, and the groups; to be ended in any case. */
static int record_policy(
	const struct host_config *c, const char *name, struct journal_policy_record *ret)
{
	const struct config_section *section = host_config_policy(c, name);
	size_t n = section ? section->n_pairs : 0, n_groups = group_settings(c, NULL);

	*ret = (struct journal_policy_record){
		.realtime_us = clock_realtime_us(),
		.name = name,
		.settings = calloc(n + 1, sizeof(*ret->settings)),
		.n_settings = n,
		.group_settings = calloc(n_groups + 1, sizeof(*ret->group_settings)),
		.n_group_settings = n_groups,
	};
	if (!ret->settings || !ret->group_settings)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		ret->settings[i] = (struct policy_setting){
			.key = section->pairs[i].key,
			.value = section->pairs[i].value,
		};
	group_settings(c, ret->group_settings);
	return 0;
}

void decide_note_policy(struct manager *m)
{
	struct journal_policy_record record;

	if (record_policy(&m->config, m->figures.policy, &record) == 0)
		journal_write_policy(m->journal, &record);
	journal_policy_record_done(&record);
}

static void on_set_aside(void *context, const char *why)
{
	struct manager *m = context;

	log_error("policy %s is set aside, %s decides: %s; memctl reload tries it again",
		policy_run_name(m->policy), POLICY_FALLBACK, why);
	decide_show_policy(m);
	decide_note_policy(m);
	bus_policy_set_aside(m->bus, policy_run_name(m->policy), POLICY_FALLBACK, why);
}

const struct policy_run_ops decide_ops = {
	.opened = manager_policy_opened,
	.decided = on_decided,
	.set_aside = on_set_aside,
};

/* A round ends at half a tick at the latest: there is time for this, and for acting. */
static uint64_t time_limit_us(const struct manager *m)
{
	return u64_min(m->config.policy_time_limit_us, m->config.tick_us / 4);
}

void decide_begin(struct manager *m, uint64_t now_us)
{
	_cleanup_free_ struct policy_guest *in = calloc(m->n_guests + 1, sizeof(*in));
	struct memd_host_view host = {
		.now_us = now_us,
		.tick_us = m->last_tick_us ? now_us - m->last_tick_us : 0,
		.budget_bytes = m->budget_bytes,
		.used_bytes = m->ledger.used_bytes,
		.pool_bytes = m->ledger.pool_bytes,
		.swap_occupied_bytes = m->ledger.swap_occupied_bytes,
		.overhead_bytes = m->ledger.used_bytes, /* less the guests', below */
		.state = (uint32_t)m->host_state,
	};
	int r;

	m->last_tick_us = now_us;
	for (size_t i = 0; in && i < m->n_guests; i++) {
		in[i] = policy_input(m->guests[i]);
		host.overhead_bytes =
			u64_sub_or_zero(host.overhead_bytes, m->guests[i]->ledger.resident_bytes);
	}
	r = in ? policy_run_evaluate(m->policy, &host, in, m->n_guests, time_limit_us(m)) : -ENOMEM;
	if (r == 0)
		return;
	log_warning("nothing is decided in this tick: %s", strerror(-r));
	tick_act(m);
	tick_report(m);
}
