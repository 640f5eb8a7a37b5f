/* See explain.h. */
#include "memd/explain.h"

#include <inttypes.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"
#include "policy/filters.h"
#include "policy/ladder.h"

struct explained {
	FILE *out;
	const struct journal_record *record;
	const struct journal_record_guest *guest;
	const struct memd_guest_view *view;
	const struct journal_guest *figures;
};

static uint64_t available_of(const struct memd_host_view *host)
{
	return u64_sub_or_zero(host->budget_bytes, host->overhead_bytes);
}

static uint64_t targets_of(const struct journal_record *r)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < r->tick.n_guests; i++)
		sum += r->guests[i].figures.decided_bytes;
	return sum;
}

static double percent_of(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void say_target(const struct explained *x, uint64_t now_us)
{
	const struct journal_tick *tick = &x->record->tick;
	uint64_t was = x->view->target_bytes, is = x->figures->decided_bytes;

	fprintf(x->out, "%s costs the host %s; its target is %s", x->view->name,
		UNITS_BYTES(x->view->resident_bytes), UNITS_BYTES(is));
	if (was && was != is)
		fprintf(x->out, ", %s %s in the tick before", is > was ? "up from" : "down from",
			UNITS_BYTES(was));
	fprintf(x->out, " (tick %" PRIu64 ", %.1f s ago, policy %s).\n", tick->number,
		(double)u64_sub_or_zero(now_us, tick->realtime_us) / (double)US_PER_S,
		x->record->policy);
}

static void say_policy(const struct explained *x, const char *chosen)
{
	if (x->record->tick.flags & JOURNAL_TICK_FELL_BACK)
		fprintf(x->out,
			"The configured policy %s did not decide this tick, %s did in its "
			"place.\n",
			chosen, x->record->policy);
	fprintf(x->out, "The policy proposed %s: %s.\n", UNITS_BYTES(x->figures->proposed_bytes),
		x->guest->reason);
}

static void say_fixed(const struct explained *x)
{
	fprintf(x->out,
		"The operator fixed the target at %s; memctl set-target %s auto gives it back to "
		"the policy.\n",
		UNITS_BYTES(x->figures->fixed_bytes), x->view->name);
}

static void say_ignored(const struct explained *x)
{
	fprintf(x->out, "The policy failed, so the target before was kept.\n");
}

static void say_floor(const struct explained *x)
{
	fprintf(x->out,
		"Its floor, MemoryMin=, is %s: no target is less, whoever proposes it; with a "
		"lower "
		"MemoryMin= it would be.\n",
		UNITS_BYTES(x->view->min_bytes));
}

static void say_ceiling(const struct explained *x)
{
	fprintf(x->out, "It may have no more than %s, its MemoryMax= or its memory.\n",
		UNITS_BYTES(u64_min(x->view->max_bytes, x->view->configured_bytes)));
}

static void say_step(const struct explained *x)
{
	fprintf(x->out,
		"A target falls by at most %.0f %% of the guest's memory a second, here %s: it "
		"will "
		"fall further.\n",
		FILTER_STEP_BP_PER_S / 100.0,
		UNITS_BYTES(
			(uint64_t)((double)x->view->configured_bytes * FILTER_STEP_BP_PER_S /
				   10000.0 * (double)x->record->host.tick_us / (double)US_PER_S)));
}

static void say_dead_band(const struct explained *x)
{
	uint64_t a = x->figures->proposed_bytes, b = x->figures->decided_bytes;

	fprintf(x->out, "The change that was proposed, %s, is too small to act on.\n",
		UNITS_BYTES(a > b ? a - b : b - a));
}

static void say_room(const struct explained *x)
{
	fprintf(x->out,
		"A raise waits until others have given: the targets of all guests add up to %s of "
		"%s available.\n",
		UNITS_BYTES(targets_of(x->record)), UNITS_BYTES(available_of(&x->record->host)));
}

static void say_rate(const struct explained *x)
{
	fprintf(x->out,
		"All guests together are made to give at most %.0f %% of the budget a second, so "
		"it "
		"gives less now than was proposed.\n",
		FILTER_RATE_BP_PER_S / 100.0);
}

static void say_settle(const struct explained *x)
{
	fprintf(x->out,
		"Its target was raised less than %.0f s ago, and does not fall before it has "
		"settled.\n",
		(double)FILTER_SETTLE_US / (double)US_PER_S);
}

static void say_distress(const struct explained *x)
{
	fprintf(x->out,
		"It ran out of memory with a balloon, and may have its most, %s, until it has "
		"recovered.\n",
		UNITS_BYTES(u64_min(x->view->max_bytes, x->view->configured_bytes)));
}

static void say_clamps(const struct explained *x)
{
	static const struct {
		uint32_t clamp;
		void (*say)(const struct explained *x);
	} sentences[] = {
		{POLICY_CLAMP_FIXED, say_fixed},
		{POLICY_CLAMP_IGNORED, say_ignored},
		{POLICY_CLAMP_FLOOR, say_floor},
		{POLICY_CLAMP_CEILING, say_ceiling},
		{POLICY_CLAMP_STEP, say_step},
		{POLICY_CLAMP_DEAD_BAND, say_dead_band},
		{POLICY_CLAMP_ROOM, say_room},
		{POLICY_CLAMP_RATE, say_rate},
		{POLICY_CLAMP_SETTLE, say_settle},
		{POLICY_CLAMP_DISTRESS, say_distress},
	};
	uint32_t left = x->figures->clamps;
	char names[128];

	for (size_t i = 0; i < ARRAY_SIZE(sentences); i++)
		if (left & sentences[i].clamp) {
			sentences[i].say(x);
			left &= ~sentences[i].clamp;
		}
	if (policy_clamps_format(left, names, sizeof(names))[0])
		fprintf(x->out, "A filter changed what was proposed: %s.\n", names);
}

static void say_host(const struct explained *x)
{
	const struct memd_host_view *h = &x->record->host;
	uint64_t left = u64_sub_or_zero(h->budget_bytes, h->used_bytes);

	fprintf(x->out,
		"The host is %s: %s of the budget of %s are used, %.1f %% are free; %s of it "
		"belong to no guest, so %s are for the %" PRIu32 " guests.\n",
		h->state <= MEMD_HOST_LOW ? host_state_name(h->state) : "in an unknown state",
		UNITS_BYTES(h->used_bytes), UNITS_BYTES(h->budget_bytes),
		percent_of(left, h->budget_bytes), UNITS_BYTES(h->overhead_bytes),
		UNITS_BYTES(available_of(h)), x->record->tick.n_guests);
}

static void say_memory(const struct explained *x)
{
	fprintf(x->out,
		"Of its %s, %s are its own pages, %s are shared (it pays %s for them), %s are "
		"swapped out, %s have no page; its memd-vmm takes %s.\n",
		UNITS_BYTES(x->view->configured_bytes), UNITS_BYTES(x->figures->private_bytes),
		UNITS_BYTES(x->figures->shared_bytes), UNITS_BYTES(x->figures->shared_cost_bytes),
		UNITS_BYTES(x->view->swapped_bytes), UNITS_BYTES(x->view->hole_bytes),
		UNITS_BYTES(x->figures->overhead_bytes));
	if (x->view->flags & MEMD_GUEST_WORKING_SET_VALID)
		fprintf(x->out, "By samples it works with %s (give or take %s).\n",
			UNITS_BYTES(x->view->working_set_bytes),
			UNITS_BYTES(x->view->working_set_error_bytes));
}

static void say_trust(const struct explained *x)
{
	if (x->view->flags & MEMD_GUEST_DISTRUSTED)
		fprintf(x->out,
			"What it says of itself contradicts what was sampled, so its claims do not "
			"count.\n");
	if (x->view->critical_bytes)
		fprintf(x->out, "With less than %s it was seen to thrash.\n",
			UNITS_BYTES(x->view->critical_bytes));
}

static void say_deeds(const struct explained *x)
{
	uint64_t cost = x->view->resident_bytes, target = x->figures->decided_bytes;

	if (cost > target)
		fprintf(x->out, "It costs %s more than its target", UNITS_BYTES(cost - target));
	else
		fprintf(x->out, "It may take %s more", UNITS_BYTES(target - cost));
	fprintf(x->out, "; its balloon holds %s of %s asked for",
		UNITS_BYTES(x->view->balloon_bytes), UNITS_BYTES(x->figures->balloon_target_bytes));
	if (!(x->view->flags & MEMD_GUEST_BALLOON_READY))
		fprintf(x->out, " (it has no balloon driver)");
	fprintf(x->out, "; %s are being paged out", UNITS_BYTES(x->figures->page_out_bytes));
	fprintf(x->out, "; since the tick before %s went out and %s came back.\n",
		UNITS_BYTES(x->figures->paged_out_bytes), UNITS_BYTES(x->view->refault_bytes));
}

/* In the order in which they are asked. */
static void say_prices(const struct explained *x)
{
	static const char *const before[] = {"", ", then ", ", then "};
	const struct journal_guest *f = x->figures;

	if (f->free_ns[LADDER_SHARE] == 0) /* of a memd that did not record them */
		return;
	fputs("Memory is had from it by what cost least lately, for a page freed: ", x->out);
	for (int rank = 0; rank < LADDER_RUNGS; rank++)
		for (int i = 0; i < LADDER_RUNGS; i++) {
			if (f->rank[i] != rank)
				continue;
			fprintf(x->out, "%s%s %.1f us", before[rank],
				ladder_rung_name((enum ladder_rung)i),
				(double)(f->free_ns[i] + f->back_ns[i]) / 1e3);
			if (f->back_ns[i])
				fprintf(x->out, " (%.1f of it waiting for what came back)",
					(double)f->back_ns[i] / 1e3);
		}
	fputs(".\n", x->out);
}

void explain_guest(FILE *out, const struct journal_record *record,
	const struct journal_record_guest *guest, const char *chosen, uint64_t now_us)
{
	struct explained x = {
		.out = out,
		.record = record,
		.guest = guest,
		.view = &guest->view,
		.figures = &guest->figures,
	};

	say_target(&x, now_us);
	say_policy(&x, chosen);
	say_clamps(&x);
	say_host(&x);
	say_memory(&x);
	say_trust(&x);
	say_prices(&x);
	say_deeds(&x);
}
