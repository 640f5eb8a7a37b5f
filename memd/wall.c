/*
 * The budget between ticks: reads what is cheap to read (the cgroup's usage, swap), moves the
 * limit, has the excess paged out, and makes guests wait and go on. Decisions are budget.c's. Never
 * writes a limit in the event loop, since that may wait in the kernel's reclaim.
 *
 * DOC: why a v1 cgroup gets no limit
 *
 * v2's memory.high only throttles, on the way back to user mode: no charge ever fails. v1 has hard
 * limits alone. At one of those a page fault from user mode waits or kills, but a fault that the
 * kernel takes itself fails (its out-of-memory handling is for users' faults, a copy then ends with
 * EFAULT): KVM reading a page table, an IDT or a stack of the guest that had been paged out, or
 * writing a frame there. KVM_RUN returns EFAULT for some, which can be retried; of others it makes a
 * triple fault, or loses what it had to write. Four guests that filled 1.3 times the budget at full
 * speed: with the limit 3 of 24 runs ended by a triple fault on a store, and one verified 92 wrong
 * pages; without it none of 30 did.
 *
 * So on v1 the cgroup only counts. What it counts is looked at every PEEK_US while more than half of
 * the budget is used (an event says when that begins; there is one only, since moving it costs a
 * grace period of RCU), guests that grow are paused before they are over the budget (budget.h), and
 * memd pages out.
 */
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "memd/base/clock.h"
#include "memd/base/log.h"
#include "memd/base/overflow.h"
#include "memd/base/procfs.h"
#include "memd/base/units.h"
#include "memd/evict.h"

#define FAST_TICK_US (100 * US_PER_MS)
/* v1: how often the usage alone is read, and how much more of it (of the budget) calls for a check. */
#define PEEK_US	     (10 * US_PER_MS)
#define PEEK_PART    128
/* v1: looked at so often from this part of the budget on. */
#define WATCHED_PART 2
/* Limits are moved in steps of this; smaller changes are not worth a system call. */
#define LIMIT_STEP   (1 * MIB)
/* The threshold event moves when what it follows has moved by this part of the budget. */
#define EVENT_PART   8

struct limit_job {
	struct job job; /* first */
	struct manager *manager;
	struct cgroup *cgroup;
	uint64_t wanted_bytes;
	uint64_t set_bytes;
	int result;
};

static void run_limit(struct job *j)
{
	struct limit_job *job = (struct limit_job *)j;

	job->result = cgroup_set_limit(job->cgroup, job->wanted_bytes, &job->set_bytes);
}

static void limit_done(struct job *j)
{
	struct limit_job *job = (struct limit_job *)j;
	struct wall *w = &job->manager->wall;

	w->limit_job = NULL;
	if (job->result == 0)
		w->limit_bytes = job->set_bytes;
	else if (job->result != -ECANCELED && job->result != -EBUSY)
		log_warning("cannot set the limit of all guests to %s: %s",
			UNITS_BYTES(job->wanted_bytes), strerror(-job->result));
	free(job);
}

static void set_limit(struct manager *m, uint64_t bytes)
{
	struct wall *w = &m->wall;
	struct limit_job *job;
	uint64_t moved = bytes > w->limit_bytes ? bytes - w->limit_bytes : w->limit_bytes - bytes;

	if (w->mode != CGROUP_V2 || w->limit_job || moved < LIMIT_STEP)
		return;
	job = malloc(sizeof(*job));
	if (!job)
		return;
	*job = (struct limit_job){
		.job = {.run = run_limit, .done = limit_done},
		.manager = m,
		.cgroup = w->root,
		.wanted_bytes = bytes,
		.result = -ECANCELED,
	};
	w->limit_job = job;
	worker_submit(m->limiter, &job->job);
}

static enum swap_state judge_swap(const struct manager *m, const struct swap_room *room)
{
	if (room->used_bytes + room->free_bytes == 0)
		return SWAP_NONE;
	if (room->free_bytes == 0)
		return SWAP_FULL;
	if (!room->in_ram && m->fault_us > (double)m->config.swap_latency_max_us)
		return SWAP_SLOW;
	return SWAP_GOOD;
}

static void note_swap(struct manager *m, const struct swap_room *room)
{
	static const char *const names[] = {"none", "full", "slow", "good"};
	static const char *const effects[] = {
		"nothing is paged out; add a zram device or another swap",
		"nothing more is paged out; balloons and sharing carry on alone",
		"nothing is paged out ahead of need",
		"",
	};

	const char *former = m->figures.swap_state; /* NULL: never read */

	m->figures.swap_state = names[room->state];
	m->figures.swap_free_bytes = room->free_bytes;
	if (former == names[room->state] || (!former && room->state == SWAP_GOOD))
		return;
	log_notice("swap is %s: %s free of %s, a fault takes %.0f us%s%s", names[room->state],
		UNITS_BYTES(room->free_bytes), UNITS_BYTES(room->used_bytes + room->free_bytes),
		m->fault_us, effects[room->state][0] ? "; " : "", effects[room->state]);
}

void wall_read_swap(struct manager *m)
{
	_cleanup_free_ struct swap_device *devices = NULL;
	struct swap_room room = {0};
	const struct swap_device *next = NULL;
	size_t n;

	if (procfs_read_swaps(&devices, &n) < 0)
		return; /* the former figures stay */
	for (size_t i = 0; i < n; i++) {
		const struct swap_device *d = &devices[i];

		room.used_bytes += d->used_bytes;
		room.free_bytes += d->size_bytes - d->used_bytes;
		room.zram_occupied_bytes += d->zram_occupied_bytes;
		if (d->size_bytes > d->used_bytes && (!next || d->priority > next->priority))
			next = d;
	}
	if (next) {
		room.in_ram = next->is_zram;
		room.size_bytes = next->size_bytes;
		snprintf(room.path, sizeof(room.path), "%s", next->path);
	}
	room.state = judge_swap(m, &room);
	note_swap(m, &room);
	m->swap = room;
}

/* Our part of what zram occupies now, by the part that the last ledger found. */
static uint64_t our_zram_bytes(const struct manager *m)
{
	const struct wall *w = &m->wall;
	uint64_t then = w->ledger_zram_bytes, now = m->swap.zram_occupied_bytes;

	/* What came since then is ours, for all we know. */
	return now > then ? m->ledger.swap_occupied_bytes + (now - then)
			  : u64_sub_or_zero(m->ledger.swap_occupied_bytes, then - now);
}

static void note_used(struct manager *m)
{
	const struct wall *w = &m->wall;
	uint64_t used = m->ledger.used_bytes - m->ledger.swap_occupied_bytes + our_zram_bytes(m);

	if (w->root)
		used = u64_sub_or_zero(used + w->usage_bytes, w->ledger_usage_bytes);
	m->figures.peak_used_bytes = u64_max(m->figures.peak_used_bytes, used);
}

static struct budget_guest describe(const struct guest *g)
{
	uint64_t cost = g->ledger.resident_bytes;

	if (g->cgroup)
		(void)cgroup_read_usage(g->cgroup, &cost); /* else what the ledger says */
	return (struct budget_guest){
		.cost_bytes = cost,
		.target_bytes = g->target_bytes,
		.paused = g->state == GUEST_PAUSED && g->paused_by_host,
		.running = g->state == GUEST_RUNNING && !g->paused_by_host && g->ops->pause,
		.since_us = g->paused_us,
	};
}

static void on_paused(void *context, int result, const struct refusal *refusal)
{
	struct guest *g = context;
	struct manager *m = g->environment->context;
	uint64_t now_us = clock_monotonic_us();

	if (result < 0) /* it is asked again when it is still needed */
		g->paused_by_host = false;
	else
		budget_note(&m->wall.budget.pause, now_us, now_us - g->paused_us);
}

static void pause_guest(struct manager *m, struct guest *g, const struct budget_guest *seen)
{
	struct refusal refusal = {0};
	char reason[VMM_REASON_MAX];

	snprintf(reason, sizeof(reason),
		"the host is short of memory: %s of the budget of %s are used, this guest costs %s "
		"with a target of %s; it goes on when there is room%s",
		UNITS_BYTES(m->wall.decision.used_bytes), UNITS_BYTES(m->budget_bytes),
		UNITS_BYTES(seen->cost_bytes), UNITS_BYTES(seen->target_bytes),
		m->swap.free_bytes ? "" : " (there is no free swap)");
	if (guest_pause(g, GUEST_PAUSER_HOST, reason, on_paused, g, &refusal) < 0)
		log_warning("%s", refusal.error.text);
}

static void resume_guest(struct guest *g)
{
	struct refusal refusal = {0};

	if (guest_resume(g, GUEST_PAUSER_HOST, NULL, NULL, &refusal) < 0)
		log_warning("%s", refusal.error.text);
}

/* The more is used above the line, the more guests are paused at once; they go on one at a time. */
#define PAUSE_EACH_PART 100

static void pause_most_over(struct manager *m, struct budget_guest *seen)
{
	uint64_t above = u64_sub_or_zero(m->wall.decision.used_bytes, m->budget_bytes);

	for (uint64_t n = 1 + above / (m->budget_bytes / PAUSE_EACH_PART + 1); n > 0; n--) {
		size_t chosen = budget_choose_pause(seen, m->n_guests);

		if (chosen == BUDGET_NOBODY)
			break;
		pause_guest(m, m->guests[chosen], &seen[chosen]);
		seen[chosen].running = false;
	}
}

static void pause_or_resume(struct manager *m, bool over, bool room)
{
	_cleanup_free_ struct budget_guest *seen = calloc(m->n_guests + 1, sizeof(*seen));
	size_t chosen;

	if (!seen || !(over || room))
		return;
	for (size_t i = 0; i < m->n_guests; i++)
		seen[i] = describe(m->guests[i]);
	if (over) {
		pause_most_over(m, seen);
		return;
	}
	chosen = budget_choose_resume(seen, m->n_guests, clock_monotonic_us());
	if (chosen != BUDGET_NOBODY)
		resume_guest(m->guests[chosen]);
}

/*
 * Who gives what has to go out: guests above their targets, by how much; else who waits; else who
 * has more than its floor; else all. Never more than is private: pages of the pool do not go out,
 * and a guest that has nothing else would be asked for ever while all wait.
 */
enum givers { GIVERS_OVER_TARGET, GIVERS_PAUSED, GIVERS_ABOVE_FLOOR, GIVERS_ALL, N_GIVERS };

static uint64_t weight(const struct guest *g, enum givers givers)
{
	uint64_t private = g->ledger.private_bytes, resident = g->ledger.resident_bytes;

	if (givers == GIVERS_OVER_TARGET)
		return u64_min(private, u64_sub_or_zero(resident, g->target_bytes));
	if (givers == GIVERS_ABOVE_FLOOR)
		return u64_min(private, u64_sub_or_zero(resident, g->min_bytes));
	return givers == GIVERS_ALL || g->paused_by_host ? private : 0;
}

static void page_out_excess(struct manager *m, uint64_t excess_bytes, enum reclaim_urgency urgency)
{
	uint64_t sum = 0;
	int givers;

	for (givers = 0; givers < N_GIVERS && sum < excess_bytes; givers++) {
		sum = 0;
		for (size_t i = 0; i < m->n_guests; i++)
			sum += weight(m->guests[i], (enum givers)givers);
	}
	for (size_t i = 0; i < m->n_guests && sum > 0; i++) {
		unsigned __int128 part = excess_bytes;

		part = part * weight(m->guests[i], (enum givers)(givers - 1)) / sum;
		if (part)
			(void)evict_begin(m, m->guests[i], (uint64_t)part, urgency);
	}
}

static void move_threshold(struct manager *m);

static bool anybody_paused(const struct manager *m)
{
	for (size_t i = 0; i < m->n_guests; i++)
		if (m->guests[i]->paused_by_host)
			return true;
	return false;
}

static void look_again(struct wall *w, uint64_t in_us)
{
	sd_event_source_set_time_relative(w->timer, in_us);
	sd_event_source_set_enabled(w->timer, SD_EVENT_ONESHOT);
}

void wall_check(struct manager *m)
{
	struct wall *w = &m->wall;
	struct budget_figures in = {
		.now_us = clock_monotonic_us(),
		.budget_bytes = m->budget_bytes,
		/* Without cgroups: what the last tick saw. */
		.usage_bytes = m->ledger.private_bytes,
		.outside_bytes = m->ledger.pool_bytes + m->ledger.overhead_bytes,
	};
	uint64_t to_go;

	if (w->root && cgroup_read_usage(w->root, &w->usage_bytes) == 0) {
		in.usage_bytes = w->usage_bytes; /* the guests' overheads are in it */
		for (size_t i = 0; i < m->n_guests; i++)
			in.outside_bytes = u64_sub_or_zero(
				in.outside_bytes, m->guests[i]->ledger.overhead_bytes);
	}
	wall_read_swap(m);
	in.zram_bytes = our_zram_bytes(m);
	budget_decide(&w->budget, &in, &w->decision);
	note_used(m);
	set_limit(m, w->decision.limit_bytes);
	pause_or_resume(m, w->decision.over, w->decision.room);
	to_go = w->decision.excess_bytes;
	if (anybody_paused(m))
		to_go = u64_max(to_go, w->decision.to_room_bytes);
	if (to_go)
		page_out_excess(m, to_go, w->decision.over ? RECLAIM_FORCED : RECLAIM_URGENT);
	move_threshold(m);
	w->checked_us = in.now_us;
	if (w->mode == CGROUP_V1 && w->decision.used_bytes > m->budget_bytes / WATCHED_PART) {
		look_again(w, PEEK_US);
		return;
	}
	w->looked_us = 0;
	if (w->decision.near || anybody_paused(m))
		look_again(w, FAST_TICK_US);
}

/* v1, between checks: nothing to do as long as the guests do not grow. */
static bool is_still(const struct manager *m)
{
	const struct wall *w = &m->wall;
	uint64_t usage;

	return w->mode == CGROUP_V1 && clock_monotonic_us() < w->checked_us + FAST_TICK_US &&
	       cgroup_read_usage(w->root, &usage) == 0 &&
	       usage < w->usage_bytes + m->budget_bytes / PEEK_PART;
}

static int on_fast_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct manager *m = userdata;
	struct wall *w = &m->wall;
	uint64_t now_us = clock_monotonic_us();

	if (w->mode == CGROUP_V1) {
		if (w->looked_us)
			budget_note(&w->budget.look, now_us, now_us - w->looked_us);
		w->looked_us = now_us;
	}
	if (is_still(m))
		look_again(w, PEEK_US);
	else
		wall_check(m);
	return 0;
}

static int on_kernel_event(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return sd_event_source_set_enabled(source, SD_EVENT_OFF);
	wall_check(userdata);
	return 0;
}

static int watch_event(struct manager *m, int fd, sd_event_source **ret)
{
	int r = sd_event_add_io(m->event, ret, fd, EPOLLIN, on_kernel_event, m);

	if (r < 0) {
		close(fd);
		return r;
	}
	sd_event_source_set_io_fd_own(*ret, 1);
	return 0;
}

/* v1: an event when usage comes to where it is watched, so that a fast fill is not first seen at the next tick. */
static void move_threshold(struct manager *m)
{
	struct wall *w = &m->wall;
	uint64_t wanted = w->decision.limit_bytes / WATCHED_PART;
	uint64_t moved = wanted > w->threshold_bytes ? wanted - w->threshold_bytes
						     : w->threshold_bytes - wanted;
	int fd;

	if (w->mode != CGROUP_V1 || moved < m->budget_bytes / EVENT_PART)
		return;
	if (cgroup_watch_threshold(w->root, wanted, &fd) < 0)
		return; /* ticks see it, later */
	w->threshold_source = sd_event_source_disable_unref(w->threshold_source);
	if (watch_event(m, fd, &w->threshold_source) == 0)
		w->threshold_bytes = wanted;
}

static int set_up_cgroup(struct manager *m, struct error *e)
{
	struct wall *w = &m->wall;
	char mount[4096];
	int r;

	w->mode = m->config.cgroup == CONFIG_CGROUP_OFF ? CGROUP_NONE
							: cgroup_detect(mount, sizeof(mount), e);
	if (w->mode == CGROUP_NONE)
		return error_set(e, -EOPNOTSUPP, "switched off by Cgroup=off");
	r = cgroup_new(w->mode, NULL, m->config.cgroup_name, &w->root, e);
	/* A memd of an earlier version may have left a limit to the guests that this one adopts. */
	if (r == 0 && w->mode == CGROUP_V1)
		r = cgroup_set_limit(w->root, UINT64_MAX, NULL);
	return r;
}

int wall_init(struct manager *m, struct error *e)
{
	static const char *const names[] = {
		[CGROUP_NONE] = "none",
		[CGROUP_V1] = "v1",
		[CGROUP_V2] = "v2",
	};
	struct wall *w = &m->wall;
	struct error why = {0};
	int r;

	w->limit_bytes = UINT64_MAX;
	if (set_up_cgroup(m, &why) < 0) {
		log_warning("guests run without memory cgroups, only the tick holds the budget: %s",
			why.text);
		cgroup_free(w->root);
		w->root = NULL;
		w->mode = CGROUP_NONE;
	}
	m->figures.cgroup_mode = names[w->mode];
	r = sd_event_add_time(m->event, &w->timer, CLOCK_MONOTONIC, 0, US_PER_MS, on_fast_tick, m);
	/* Whatever else is due waits: a guest may be growing. */
	if (r >= 0)
		r = sd_event_source_set_priority(w->timer, SD_EVENT_PRIORITY_IMPORTANT);
	if (r < 0)
		return r;
	return sd_event_source_set_enabled(w->timer, SD_EVENT_OFF);
}

void wall_done(struct manager *m)
{
	struct wall *w = &m->wall;

	sd_event_source_disable_unref(w->timer);
	sd_event_source_disable_unref(w->threshold_source);
	if (w->root && cgroup_remove(w->root) == -EBUSY)
		log_info("the guests' cgroup stays, with the guests in it");
	cgroup_free(w->root);
	*w = (struct wall){0};
}
