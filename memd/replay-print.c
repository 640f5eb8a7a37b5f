/* The lines of a replay, as memd-journal(5) has them. Texts are clean already; quotes are not. */
#include <inttypes.h>
#include <stdlib.h>

#include "memd/replay-internal.h"
#include "policy/ladder.h"

void replay_print_text(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', out);
		fputc(*text, out);
	}
	fputc('"', out);
}

static void print_decision(FILE *out, const char *key, uint64_t proposed_bytes,
	uint64_t target_bytes, uint32_t clamps, const char *reason)
{
	char names[256];

	fprintf(out,
		",\"%s\":{\"proposed_bytes\":%" PRIu64 ",\"target_bytes\":%" PRIu64
		",\"filters\":\"%s\",\"reason\":",
		key, proposed_bytes, target_bytes,
		policy_clamps_format(clamps, names, sizeof(names)));
	replay_print_text(out, reason);
	fputc('}', out);
}

static uint64_t price_ns(const struct journal_guest *f, enum ladder_rung rung)
{
	return f->free_ns[rung] + f->back_ns[rung];
}

static void print_guest(
	FILE *out, const struct journal_record_guest *g, const struct policy_decision *d)
{
	const struct memd_guest_view *v = &g->view;
	const struct journal_guest *f = &g->figures;

	fputs("{\"name\":", out);
	replay_print_text(out, v->name);
	fputs(",\"group\":", out);
	replay_print_text(out, f->group);
	fprintf(out,
		",\"id\":%" PRIu64 ",\"configured_bytes\":%" PRIu64 ",\"min_bytes\":%" PRIu64
		",\"max_bytes\":%" PRIu64 ",\"shares\":%" PRIu32 ",\"flags\":%" PRIu32
		",\"former_target_bytes\":%" PRIu64 ",\"resident_bytes\":%" PRIu64
		",\"swapped_bytes\":%" PRIu64 ",\"saved_sharing_bytes\":%" PRIu64
		",\"hole_bytes\":%" PRIu64,
		v->id, v->configured_bytes, v->min_bytes, v->max_bytes, v->shares, v->flags,
		v->target_bytes, v->resident_bytes, v->swapped_bytes, v->saved_sharing_bytes,
		v->hole_bytes);
	fprintf(out,
		",\"balloon_bytes\":%" PRIu64 ",\"balloon_target_bytes\":%" PRIu64
		",\"refault_bytes\":%" PRIu64 ",\"paged_out_bytes\":%" PRIu64
		",\"page_out_bytes\":%" PRIu64 ",\"private_bytes\":%" PRIu64
		",\"shared_bytes\":%" PRIu64 ",\"shared_cost_bytes\":%" PRIu64
		",\"overhead_bytes\":%" PRIu64 ",\"working_set_bytes\":%" PRIu64
		",\"stall_some_10_bp\":%" PRIu32 ",\"scan_cpu_us\":%" PRIu64,
		v->balloon_bytes, f->balloon_target_bytes, v->refault_bytes, f->paged_out_bytes,
		f->page_out_bytes, f->private_bytes, f->shared_bytes, f->shared_cost_bytes,
		f->overhead_bytes, v->working_set_bytes, v->stall_some_10_bp, f->scan_cpu_us);
	fprintf(out,
		",\"price_ns\":{\"sharing\":%" PRIu64 ",\"balloon\":%" PRIu64
		",\"page_out\":%" PRIu64 "}",
		price_ns(f, LADDER_SHARE), price_ns(f, LADDER_BALLOON),
		price_ns(f, LADDER_PAGE_OUT));
	print_decision(out, "recorded", f->proposed_bytes, f->decided_bytes, f->clamps, g->reason);
	print_decision(out, "replayed", d->proposed_bytes, d->target_bytes, d->clamps, d->reason);
	fputc('}', out);
}

void replay_print_tick(
	FILE *out, const struct journal_record *r, const struct policy_decision *decisions)
{
	const struct memd_host_view *h = &r->host;

	fprintf(out,
		"{\"type\":\"tick\",\"number\":%" PRIu64 ",\"realtime_usec\":%" PRIu64
		",\"policy\":",
		r->tick.number, r->tick.realtime_us);
	replay_print_text(out, r->policy);
	fprintf(out,
		",\"fell_back\":%s,\"wait_usec\":%" PRIu64 ",\"policy_cpu_usec\":%" PRIu64
		",\"host\":{\"state\":\"%s\",\"budget_bytes\":%" PRIu64 ",\"used_bytes\":%" PRIu64
		",\"overhead_bytes\":%" PRIu64 ",\"pool_bytes\":%" PRIu64
		",\"swap_occupied_bytes\":%" PRIu64 ",\"tick_usec\":%" PRIu64 "},\"guests\":[",
		r->tick.flags & JOURNAL_TICK_FELL_BACK ? "true" : "false", r->tick.wait_us,
		r->tick.policy_cpu_us, h->state <= MEMD_HOST_LOW ? host_state_name(h->state) : "",
		h->budget_bytes, h->used_bytes, h->overhead_bytes, h->pool_bytes,
		h->swap_occupied_bytes, h->tick_us);
	for (uint32_t i = 0; i < r->tick.n_guests; i++) {
		if (i > 0)
			fputc(',', out);
		print_guest(out, &r->guests[i], &decisions[i]);
	}
	fputs("]}\n", out);
}

static uint64_t mean(unsigned __int128 sum, uint64_t n)
{
	return n ? (uint64_t)(sum / n) : 0;
}

void replay_print_summary(FILE *out, const struct replay_summary *s)
{
	fputs("{\"type\":\"summary\",\"policy\":", out);
	replay_print_text(out, s->policy);
	fprintf(out,
		",\"ticks\":%" PRIu64 ",\"restarts\":%" PRIu64 ",\"first_usec\":%" PRIu64
		",\"last_usec\":%" PRIu64 ",\"decisions\":%" PRIu64 ",\"differ\":%" PRIu64
		",\"damaged_bytes\":%" PRIu64 ",\"guests\":[",
		s->n_ticks, s->n_restarts, s->first_us, s->last_us, s->n_decisions, s->n_differ,
		s->damaged_bytes);
	for (size_t i = 0; i < s->n_guests; i++) {
		const struct replay_guest_sum *g = &s->guests[i];

		fprintf(out, "%s{\"name\":", i ? "," : "");
		replay_print_text(out, g->name);
		fprintf(out,
			",\"ticks\":%" PRIu64 ",\"recorded_mean_bytes\":%" PRIu64
			",\"replayed_mean_bytes\":%" PRIu64 ",\"recorded_last_bytes\":%" PRIu64
			",\"replayed_last_bytes\":%" PRIu64 ",\"largest_difference_bytes\":%" PRIu64
			"}",
			g->n, mean(g->recorded_bytes, g->n), mean(g->replayed_bytes, g->n),
			g->recorded_last_bytes, g->replayed_last_bytes, g->most_bytes);
	}
	fputs("]}\n", out);
}
