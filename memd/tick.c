/*
 * The control tick: sample, evaluate, clamp, act.
 *
 * DOC: one round
 *
 * The timer re-arms itself first and begins a round: every guest, every pool and memd itself are
 * asked for figures, all at once and none waited for. When all have answered, or after half a tick,
 * the round ends: the ledger is computed, the policy proposes, its filters clamp (decide.c), and the
 * difference to what was decided before is acted on, when the policy has answered: one that is a
 * process of its own is not waited for. Whoever did not answer has no figures in this
 * round: its last ones stay in the sums, so that the host's figures do not jump, but nothing new is
 * asked of it. Then everything that changed is said on the bus, once.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "memd/base/alloc-stats.h"
#include "memd/base/clock.h"
#include "memd/base/log.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"
#include "memd/bus.h"
#include "memd/manager.h"
#include "memd/evict.h"
#include "memd/guest-agent.h"
#include "memd/template.h"

void tick_send_scan(struct manager *m, struct guest *g)
{
	struct vmm_set_scan scan = {
		.mode = (uint32_t)m->config.share_mode,
		.max_cpu_bp = m->config.share_max_cpu_bp,
		.target_time_us = g->scan_fast ? 0 : m->config.share_target_time_us,
	};

	if (g->config.memory_locked)
		scan.mode = VMM_SCAN_OFF;
	if (guest_is_up(g))
		guest_send_scan(g, &scan);
}

/* Sample. */

static void on_own_costs(void *context, const struct own_costs *costs)
{
	struct manager *m = context;

	m->own_reading = NULL;
	if (costs->memd_bytes)
		m->own_costs = *costs;
	tick_arrived(m);
}

static bool anything_awaited(const struct manager *m)
{
	if (m->own_reading)
		return true;
	for (size_t i = 0; i < m->n_guests; i++)
		if (m->guests[i]->sample.phase != GUEST_SAMPLE_IDLE)
			return true;
	for (const struct pool_group *p = m->groups; p; p = p->next)
		if (p->asked)
			return true;
	return false;
}

static void begin_samples(struct manager *m)
{
	for (size_t i = 0; i < m->n_guests; i++)
		guest_sample_begin(m->guests[i]);
	for (struct pool_group *p = m->groups; p; p = p->next)
		pool_group_sample(p, GUEST_SAMPLE_TIMEOUT_US);
	if (!m->own_reading)
		(void)own_costs_begin(m->sampler, policy_run_pid(m->policy), on_own_costs, m,
			&m->own_reading); /* without memory: those of the last tick */
}

/* Evaluate. */

static size_t count_groups(const struct manager *m)
{
	size_t n = 0;

	for (const struct pool_group *p = m->groups; p; p = p->next)
		n++;
	return n;
}

static uint32_t group_index(const struct manager *m, const struct pool_group *wanted)
{
	uint32_t i = 0;

	for (const struct pool_group *p = m->groups; p; p = p->next, i++)
		if (p == wanted)
			return i;
	return LEDGER_NO_GROUP;
}

static size_t count_templates(const struct manager *m)
{
	size_t n = 0;

	for (const struct template *t = template_first(m->templates); t; t = template_next(t))
		n++;
	return n;
}

static uint32_t template_index(const struct manager *m, const struct template *wanted)
{
	uint32_t i = 0;

	for (const struct template *t = template_first(m->templates); t; t = template_next(t), i++)
		if (t == wanted)
			return i;
	return LEDGER_NO_GROUP;
}

static struct ledger_guest_in ledger_input(const struct manager *m, const struct guest *g)
{
	const struct guest_sample *s = &g->sample;

	return (struct ledger_guest_in){
		.configured_bytes = g->config.memory_bytes,
		.group = group_index(m, g->group),
		.template = template_index(m, g->template),
		.before = s->before,
		.after = s->after,
		.rollup = s->kernel.rollup,
		.page_table_bytes = s->kernel.page_table_bytes,
		.ram_anonymous_bytes = s->kernel.ram_anonymous_pages * PAGE_BYTES,
		.ram_swapped_bytes = s->kernel.ram_swapped_pages * PAGE_BYTES,
		.ram_file_bytes = s->kernel.ram_file_pages * PAGE_BYTES,
		.moved_bytes =
			(g->reclaim.out_pages_last + g->reclaim.refault_pages_last) * PAGE_BYTES,
	};
}

static void compute_ledger(struct manager *m)
{
	size_t n_groups = count_groups(m), n_templates = count_templates(m), i = 0;
	_cleanup_free_ struct ledger_guest_in *in = calloc(m->n_guests + 1, sizeof(*in));
	_cleanup_free_ struct ledger_guest *out = calloc(m->n_guests + 1, sizeof(*out));
	_cleanup_free_ struct ledger_pool_in *pools = calloc(n_groups + 1, sizeof(*pools));
	_cleanup_free_ uint64_t *templates = calloc(n_templates + 1, sizeof(*templates));
	struct ledger_host_in host = {
		.own_bytes = m->own_costs.memd_bytes + m->own_costs.policy_bytes};

	if (!in || !out || !pools || !templates)
		return;
	wall_read_swap(m);
	host.swap_used_bytes = m->swap.used_bytes;
	host.zram_occupied_bytes = m->swap.zram_occupied_bytes;
	for (i = 0; i < m->n_guests; i++)
		in[i] = ledger_input(m, m->guests[i]);
	i = 0;
	for (const struct pool_group *p = m->groups; p; p = p->next, i++)
		pools[i] = (struct ledger_pool_in){
			.memfd_bytes = p->memfd_bytes,
			.referenced_bytes = p->references * PAGE_BYTES,
			.process_bytes = p->process_bytes,
		};
	i = 0;
	for (const struct template *t = template_first(m->templates); t; t = template_next(t))
		templates[i++] = template_bytes(t);
	host.template_bytes = templates;
	host.n_templates = n_templates;
	ledger_compute(in, m->n_guests, pools, n_groups, &host, out, &m->ledger);
	for (i = 0; i < m->n_guests; i++)
		m->guests[i]->ledger = out[i];
	m->wall.ledger_zram_bytes = m->swap.zram_occupied_bytes;
	if (m->wall.root)
		(void)cgroup_read_usage(m->wall.root, &m->wall.ledger_usage_bytes);
}

static void update_host_state(struct manager *m)
{
	enum memd_host_state old = m->host_state;
	char reason[160];

	m->host_state = host_state_next(old, m->budget_bytes, m->ledger.used_bytes);
	if (old == m->host_state)
		return;
	snprintf(reason, sizeof(reason), "%s of the budget of %s are used",
		UNITS_BYTES(m->ledger.used_bytes), UNITS_BYTES(m->budget_bytes));
	log_notice("host state %s -> %s: %s", host_state_name(old), host_state_name(m->host_state),
		reason);
	bus_host_state_changed(m->bus, old, m->host_state, reason);
}

/* Act. */

static void act_balloon(struct manager *m, struct guest *g, uint64_t now_us)
{
	const struct vmm_stats *s = &g->sample.after;
	struct balloon_in in = {
		.now_us = now_us,
		.wanted = m->balloon_host.wanted || g->fixed_bytes,
		.ready = s->balloon_ready,
		.configured_bytes = g->config.memory_bytes,
		.target_bytes = judge_balloon_target(g, now_us),
		.overhead_bytes = g->ledger.overhead_bytes,
		.saved_sharing_bytes = g->ledger.saved_sharing_bytes,
		.hole_zero_bytes = g->ledger.hole_zero_bytes,
		.max_bp = g->config.balloon_max_bp,
		.actual_bytes = s->balloon_actual_pages * PAGE_BYTES,
		.claimed_us = judge_claimed_us(g),
		.available_bytes = judge_available_bytes(g),
		.distress = guest_agent_take_distress(g),
		.asked = true,
	};
	bool was_stuck = g->balloon.stuck, was_distress = g->balloon.distress;
	uint64_t bytes;

	if (s->guest_stats_time_us && s->guest_major_faults != UINT64_MAX) {
		in.faulting = s->guest_major_faults > g->major_faults_last;
		g->major_faults_last = s->guest_major_faults;
	}
	g->judge.faulting = in.faulting;
	in.consent_bytes = in.wanted && in.ready && now_us >= g->balloon.quiet_until_us
				   ? guest_agent_consent(g, balloon_wanted_bytes(&in), now_us)
				   : UINT64_MAX;
	bytes = balloon_decide(&g->balloon, &in);
	if (g->balloon.stuck && !was_stuck)
		log_info("guest %s: its balloon stays at %s of %s; paging carries the rest",
			g->name, UNITS_BYTES(in.actual_bytes),
			UNITS_BYTES(g->balloon.target_bytes));
	if (g->balloon.distress && !was_distress)
		log_notice("guest %s: out of memory (%s available) with %s in its balloon; all of "
			   "it goes back",
			g->name, UNITS_BYTES(in.available_bytes), UNITS_BYTES(in.actual_bytes));
	guest_send_balloon(g, bytes);
}

/* What the guest has free anyway comes first: it costs it nothing to be without. */
static void act_hints(struct manager *m, struct guest *g, uint64_t now_us)
{
	const struct vmm_stats *s = &g->sample.after;
	uint64_t over = u64_sub_or_zero(g->ledger.resident_bytes, g->target_bytes);
	const struct hints_in in = {
		.now_us = now_us,
		.possible = s->hints_possible && g->state == GUEST_RUNNING,
		.wanted = m->host_state != MEMD_HOST_HIGH ||
			  (g->target_bytes && over >= CHUNK_BYTES),
		.configured_bytes = g->config.memory_bytes,
		.free_bytes = s->guest_stats_time_us ? s->guest_free_bytes : UINT64_MAX,
		.hole_bytes = g->ledger.hole_untouched_bytes + g->ledger.hole_reported_bytes +
			      g->ledger.hole_hinted_bytes,
		.runs = s->hint_runs,
		.dropped_bytes = s->hint_dropped_pages * PAGE_BYTES,
	};
	struct refusal refusal = {0};

	if (hints_decide(&g->hints, &in))
		(void)guest_ask_hints(g, NULL, NULL, &refusal); /* in vain: the next tick says so */
}

static void keep_pool_attached(struct manager *m, struct guest *g)
{
	struct error e = {0};

	if (m->config.share_mode != CONFIG_SHARE_SHARE || !g->group)
		return;
	if (manager_start_pool(m, g->group, &e) < 0)
		log_warning("guest %s does not share: %s", g->name, e.text);
	else if (g->sample.valid ? !g->sample.after.pool_attached : !g->child.adopted)
		guest_attach_pool(g);
}

/*
 * At full speed while the guest waits for memory, or its pages for page-out: no longer than that,
 * since whoever asked for the pass need not come back when it is over.
 */
static void set_scan_speed(struct manager *m, struct guest *g, uint64_t now_us)
{
	bool awaited = now_us < g->scan_wait_until_us &&
		       g->sample.after.scan_passes == g->scan_wait_passes;
	bool fast = g->paused_by_host || awaited;

	if (fast == g->scan_fast)
		return;
	g->scan_fast = fast;
	tick_send_scan(m, g);
}

static void act(struct manager *m, struct guest *g, uint64_t now_us)
{
	guest_agent_keep(g, now_us);
	if (!guest_is_up(g) || guest_is_left_alone(g))
		return;
	keep_pool_attached(m, g);
	if (!g->sample.fresh)
		return;
	judge_sample(g, m->config.ladder == CONFIG_LADDER_FIXED, now_us);
	act_hints(m, g, now_us);
	act_balloon(m, g, now_us);
	if (g->state == GUEST_RUNNING || g->state == GUEST_PAUSED)
		evict_act(m, g, now_us);
	set_scan_speed(m, g, now_us);
	/*
	 * v2: each guest is throttled at its own target; v1 has nothing but hard limits, so only
	 * all together.
	 */
	if (m->wall.mode == CGROUP_V2 && g->cgroup && g->target_bytes)
		(void)cgroup_set_limit(g->cgroup, g->target_bytes + CHUNK_BYTES, NULL);
}

/* Report. */

static void flag_mismatch(struct guest *g)
{
	static struct log_ratelimit limit = LOG_RATELIMIT_INIT;
	const struct vmm_stats *s = &g->sample.after;
	const struct kernel_sample *k = &g->sample.kernel;

	if (g->ledger.mismatch_bp <= LEDGER_MISMATCH_LIMIT_BP || !log_ratelimit_pass(&limit))
		return;
	log_warning("guest %s: its figures are %" PRIu32 ".%02" PRIu32
		    " %% off: pages private %" PRIu64 " (kernel %" PRIu64 "), shared %" PRIu64
		    " (%" PRIu64 "), swapped %" PRIu64 " (%" PRIu64
		    "), anonymous memory of the process %s",
		g->name, g->ledger.mismatch_bp / 100, g->ledger.mismatch_bp % 100, s->private_pages,
		k->ram_anonymous_pages, s->shared_pages, k->ram_file_pages, s->swapped_pages,
		k->ram_swapped_pages, UNITS_BYTES(k->rollup.anonymous_bytes));
}

/* What `systemctl status` shows, when it changes: without figures, which change at each tick. */
static void tell_service_manager(struct manager *m)
{
	char status[96];

	snprintf(status, sizeof(status), "%zu guests, host state %s", m->n_guests,
		host_state_name(m->host_state));
	if (strcmp(status, m->status) == 0)
		return;
	memcpy(m->status, status, sizeof(status));
	sd_notifyf(0, "STATUS=%s", status);
}

void tick_report(struct manager *m)
{
	const struct ledger_host *l = &m->ledger;
	struct host_figures *f = &m->figures;
	struct alloc_stats allocated;

	f->host_state = host_state_name(m->host_state);
	f->used_bytes = l->used_bytes;
	f->peak_used_bytes = u64_max(f->peak_used_bytes, l->used_bytes);
	f->guest_private_bytes = l->private_bytes;
	f->pool_bytes = l->pool_bytes;
	f->swap_occupied_bytes = l->swap_occupied_bytes;
	f->template_bytes = l->template_bytes;
	f->swap_used_bytes = l->swap_used_bytes;
	f->overhead_bytes = l->overhead_bytes;
	f->policy_bytes = m->own_costs.policy_bytes;
	f->configured_bytes = l->configured_bytes;
	f->saved_sharing_bytes = l->saved_sharing_bytes;
	f->saved_zero_bytes = l->saved_zero_bytes;
	f->saved_balloon_bytes = l->saved_balloon_bytes;
	f->saved_paging_bytes = l->saved_paging_bytes;
	f->pool_unmapped_bytes = l->pool_unmapped_bytes;
	f->freeable_bytes = l->freeable_bytes;
	f->bracket_low_bytes = l->bracket_low_bytes;
	f->bracket_high_bytes = l->bracket_high_bytes;
	f->kernel_bytes = l->kernel_bytes;
	f->mismatch_bytes = l->mismatch_bytes;
	f->ledger_mismatch_bp = l->mismatch_bp;
	f->ticks++;
	f->journal_dropped = journal_dropped(m->journal);
	if (alloc_stats_read(&allocated) == 0)
		f->allocated_bytes = allocated.allocated_bytes;
	for (size_t i = 0; i < m->n_guests; i++) {
		struct guest *g = m->guests[i];

		if (!g->sample.fresh)
			continue;
		flag_mismatch(g);
		history_note(&g->history, m->options.state_dir, g, clock_realtime_us() / US_PER_S);
	}
	bus_publish(m->bus);
	tell_service_manager(m);
}

/* A policy that keeps memory free has guests give before the host is short. */
static bool anybody_over_target(const struct manager *m)
{
	for (size_t i = 0; i < m->n_guests; i++)
		if (m->guests[i]->over_since_us)
			return true;
	return false;
}

static void end_round(struct manager *m)
{
	uint64_t now_us = clock_monotonic_us();

	m->in_round = false;
	sd_event_source_set_enabled(m->round_timer, SD_EVENT_OFF);
	for (size_t i = 0; i < m->n_guests; i++) {
		struct guest *g = m->guests[i];

		if (g->sample.fresh)
			reclaim_observe(&g->reclaim, g->sample.kernel.regions,
				g->sample.kernel.begin_us, now_us);
	}
	compute_ledger(m);
	update_host_state(m);
	manager_place_guests(m, now_us);
	balloon_host_decide(&m->balloon_host,
		m->host_state == MEMD_HOST_HIGH && !anybody_over_target(m) ? BALLOON_HOST_PLENTY
									   : BALLOON_HOST_SHORT,
		now_us, m->ledger.used_bytes, m->ledger.saved_balloon_bytes, m->budget_bytes);
	decide_begin(m, now_us);
}

void tick_act(struct manager *m)
{
	uint64_t now_us = clock_monotonic_us();

	for (size_t i = 0; i < m->n_guests; i++)
		act(m, m->guests[i], now_us);
	relief_tick(m, now_us);
	wall_check(m);
}

void tick_arrived(struct manager *m)
{
	if (m->in_round && !anything_awaited(m))
		end_round(m);
}

static int on_round_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct manager *m = userdata;

	if (m->in_round)
		end_round(m);
	return 0;
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct manager *m = userdata;

	sd_event_source_set_time_relative(source, m->config.tick_us);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	m->in_round = true;
	sd_event_source_set_time_relative(m->round_timer, m->config.tick_us / 2);
	sd_event_source_set_enabled(m->round_timer, SD_EVENT_ONESHOT);
	begin_samples(m);
	tick_arrived(m);
	return 0;
}

int tick_start(struct manager *m)
{
	int r;

	m->figures.host_state = host_state_name(m->host_state);
	r = sd_event_add_time_relative(
		m->event, &m->tick_timer, CLOCK_MONOTONIC, 0, 10 * US_PER_MS, on_tick, m);
	if (r >= 0)
		r = sd_event_add_time(m->event, &m->round_timer, CLOCK_MONOTONIC, 0, 10 * US_PER_MS,
			on_round_timeout, m);
	if (r >= 0)
		r = sd_event_source_set_enabled(m->round_timer, SD_EVENT_OFF);
	return r < 0 ? r : 0;
}

void tick_stop(struct manager *m)
{
	m->in_round = false;
	m->tick_timer = sd_event_source_disable_unref(m->tick_timer);
	m->round_timer = sd_event_source_disable_unref(m->round_timer);
	own_costs_cancel(m->own_reading);
	m->own_reading = NULL;
}
