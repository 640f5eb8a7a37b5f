/*
 * DOC: by shares, first what is needed, then what is left
 *
 * First each guest's ceiling is what it has use for: resident, swapped out and saved by sharing, with
 * an eighth more to grow by. Without that, a guest that uses a tenth of its right would hold memory
 * that another pages for. If all such demands fit, what is left over is filled on top in the same
 * way up to max_bytes: memory that nobody needs still saves a growing guest from waiting for the
 * next tick. If all of max_bytes fits, everyone has that, and there is no pressure at all.
 *
 * What a guest claims is not used. No state: equal figures give equal targets.
 */
#include "policy/by-shares.h"

#include <inttypes.h>
#include <stdio.h>

#include "memd/base/units.h"
#include "policy/guest-view.h"

/* One tick's arithmetic. */
struct filling {
	const struct by_shares *rule;
	const struct memd_host_view *view;
	struct vessels *vs;
	uint64_t shares; /* of all */
	vessel_sum_t demand_bytes, min_bytes, max_bytes; /* of all */
	vessel_level_t level;
};

static void fill_demands(struct filling *f)
{
	for (uint32_t i = 0; i < f->view->n_guests; i++) {
		const struct memd_guest_view *g = f->view->guests[i];
		uint32_t tax_bp =
			f->rule->tax_of ? f->rule->tax_of(f->rule->context, g) : VESSEL_NO_TAX_BP;

		f->vs->v[i] = (struct vessel){
			.low_bytes = view_min(g),
			.high_bytes = view_demand(g),
			.knee_bytes = tax_bp > VESSEL_NO_TAX_BP ? view_active(g) : VESSEL_NO_KNEE,
			.weight = g->shares,
			.tax_bp = tax_bp,
		};
	}
}

static void fill_spare(struct filling *f)
{
	for (uint32_t i = 0; i < f->view->n_guests; i++) {
		const struct memd_guest_view *g = f->view->guests[i];

		f->vs->v[i] = (struct vessel){
			.base_bytes = view_demand(g),
			.low_bytes = view_demand(g),
			.high_bytes = view_max(g),
			.knee_bytes = VESSEL_NO_KNEE,
			.weight = g->shares,
			.tax_bp = VESSEL_NO_TAX_BP,
		};
	}
}

static void propose_max(
	const struct filling *f, const struct memd_guest_view *g, struct memd_proposal *p)
{
	p->target_bytes = view_max(g);
	SAY(p, "all guests at their most fit: %s of %s available",
		UNITS_BYTES(vessel_sum_cut(f->max_bytes)), UNITS_BYTES(f->rule->available_bytes));
}

static void propose_min(
	const struct filling *f, const struct memd_guest_view *g, struct memd_proposal *p)
{
	p->target_bytes = view_min(g);
	SAY(p, "floor: the floors of all guests, %s, do not fit in %s available",
		UNITS_BYTES(vessel_sum_cut(f->min_bytes)), UNITS_BYTES(f->rule->available_bytes));
}

static void propose_spare(const struct filling *f, uint32_t i, struct memd_proposal *p)
{
	const struct memd_guest_view *g = f->view->guests[i];

	p->target_bytes = vessel_amount(&f->vs->v[i], f->level);
	SAY(p, "demand %s and %s of %s spare by %u of %" PRIu64 " shares",
		UNITS_BYTES(view_demand(g)), UNITS_BYTES(p->target_bytes - view_demand(g)),
		UNITS_BYTES(f->rule->available_bytes - (uint64_t)f->demand_bytes), g->shares,
		f->shares);
}

static void propose_part(const struct filling *f, uint32_t i, struct memd_proposal *p)
{
	const struct memd_guest_view *g = f->view->guests[i];
	const struct vessel *v = &f->vs->v[i];
	char idle[64] = "";
	const char *what;

	p->target_bytes = vessel_amount(v, f->level);
	if (p->target_bytes == v->high_bytes)
		what = "whole demand";
	else if (p->target_bytes == v->low_bytes)
		what = "floor, above its part";
	else
		what = "part";
	if (p->target_bytes > v->knee_bytes)
		snprintf(idle, sizeof(idle), ", uses %s, the rest taxed",
			UNITS_BYTES(v->knee_bytes));
	SAY(p, "%s: %u of %" PRIu64 " shares of %s available, demand %s of all guests' %s%s", what,
		g->shares, f->shares, UNITS_BYTES(f->rule->available_bytes),
		UNITS_BYTES(view_demand(g)), UNITS_BYTES(vessel_sum_cut(f->demand_bytes)), idle);
}

static void sum_up(struct filling *f)
{
	for (uint32_t i = 0; i < f->view->n_guests; i++) {
		f->shares += f->view->guests[i]->shares;
		f->max_bytes += view_max(f->view->guests[i]);
	}
	f->min_bytes = vessels_low(f->vs, f->view->n_guests);
	f->demand_bytes = vessels_high(f->vs, f->view->n_guests);
}

int by_shares_propose(const struct by_shares *rule, struct vessels *vs,
	const struct memd_host_view *view, struct memd_proposal *const *proposals)
{
	struct filling f = {.rule = rule, .view = view, .vs = vs};
	uint64_t available_bytes = rule->available_bytes;
	int r;

	r = vessels_reserve(vs, view->n_guests);
	if (r < 0)
		return r;
	fill_demands(&f);
	sum_up(&f);
	if (f.demand_bytes <= available_bytes)
		fill_spare(&f);
	f.level = vessels_level(vs, view->n_guests, available_bytes);
	for (uint32_t i = 0; i < view->n_guests; i++) {
		if (f.max_bytes <= available_bytes)
			propose_max(&f, view->guests[i], proposals[i]);
		else if (f.demand_bytes <= available_bytes)
			propose_spare(&f, i, proposals[i]);
		else if (f.min_bytes <= available_bytes)
			propose_part(&f, i, proposals[i]);
		else
			propose_min(&f, view->guests[i], proposals[i]);
	}
	return 0;
}
