/* Carries placement.c's decision out: what it is told of each guest, and what memd-vmm is told then. */
#include <string.h>

#include "memd/base/log.h"
#include "memd/base/overflow.h"
#include "memd/guest-internal.h"
#include "memd/manager.h"

#define BP_ONE 10000

/* Of all its vCPUs, between the last two samples. */
static uint32_t load_of(struct guest *g)
{
	const struct vmm_stats *s = &g->sample.after;
	uint64_t cpu_us, time_us;
	uint32_t load_bp = PLACEMENT_LOAD_UNKNOWN;

	if (!g->sample.fresh)
		return load_bp;
	cpu_us = u64_sub_or_zero(s->vcpu_cpu_us, g->last_vcpu_cpu_us);
	time_us = u64_sub_or_zero(s->time_us, g->last_sample_us) * g->config.n_vcpus;
	if (g->last_sample_us && time_us)
		load_bp = (uint32_t)u64_min(cpu_us * BP_ONE / time_us, BP_ONE);
	g->last_vcpu_cpu_us = s->vcpu_cpu_us;
	g->last_sample_us = s->time_us;
	return load_bp;
}

static void tell(struct guest *g, bool was_exclusive)
{
	char text[PLACEMENT_TEXT_MAX];

	placement_text(&g->placement.cpus, text);
	if (was_exclusive != g->placement.exclusive)
		log_info("guest %s: CPUs %s (%s)", g->name, text, g->placement.reason);
	guest_send_cpus(g);
}

void manager_place_guests(struct manager *m, uint64_t now_us)
{
	_cleanup_free_ struct placement **placements = calloc(m->n_guests + 1, sizeof(*placements));
	_cleanup_free_ bool *were_exclusive = calloc(m->n_guests + 1, sizeof(*were_exclusive));
	cpu_set_t online;
	unsigned n = 0;

	if (!placements || !were_exclusive || sched_getaffinity(0, sizeof(online), &online) < 0)
		return;
	for (size_t i = 0; i < m->n_guests; i++) {
		struct guest *g = m->guests[i];

		g->placement.n_vcpus = g->config.n_vcpus;
		g->placement.load_bp = load_of(g);
		were_exclusive[n] = g->placement.exclusive;
		placements[n++] = &g->placement;
	}
	placement_decide(&online, placements, n, now_us);
	for (size_t i = 0; i < m->n_guests; i++)
		tell(m->guests[i], were_exclusive[i]);
}
