/*
 * What else helps a host that is short, beside taking memory from guests: the kernel merges equal
 * pages of libvirt's guests (ksm.h), and whoever can move guests is told which of them would help
 * most by leaving.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/log.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"
#include "memd/bus.h"
#include "memd/ksm.h"
#include "memd/manager.h"

/* So often is it said again while the host stays short. */
#define SAY_AGAIN_US (60 * US_PER_S)
#define NAMED_MAX    5

void relief_configure(struct manager *m)
{
	_cleanup_free_ char *path = NULL;
	struct error e = {0};

	if (m->config.kernel_merging == CONFIG_MERGING_LEAVE || !m->libvirt) {
		relief_done(m);
		return;
	}
	if (m->ksm)
		return;
	if (asprintf(&path, "%s/ksm.state", m->options.runtime_dir) < 0) {
		path = NULL;
		return;
	}
	if (ksm_steering_new(path, &m->ksm, &e) < 0)
		log_warning("KernelMerging=steer: %s", e.text[0] ? e.text : "KSM cannot be read");
}

void relief_done(struct manager *m)
{
	ksm_steering_free(m->ksm);
	m->ksm = NULL;
}

static void steer_merging(struct manager *m, uint64_t now_us)
{
	bool wanted = m->host_state != MEMD_HOST_HIGH;
	int64_t profit_bytes = 0;

	for (size_t i = 0; i < m->n_guests; i++) {
		const struct guest *g = m->guests[i];

		if (!g->domain || !guest_pid(g))
			continue;
		profit_bytes += ksm_profit_of(guest_pid(g));
		wanted |= g->over_since_us != 0;
	}
	ksm_steering_tick(m->ksm, now_us, wanted, profit_bytes, m->config.share_max_cpu_bp);
}

/* What the host would have more if the guest left. */
static uint64_t relief_by(const struct guest *g)
{
	return g->ledger.resident_bytes + g->ledger.swapped_occupied_bytes;
}

/* The largest first, at most NAMED_MAX. Only those that somebody else could run: libvirt's. */
static size_t choose(const struct manager *m, const struct guest *chosen[NAMED_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < m->n_guests; i++) {
		const struct guest *g = m->guests[i];
		size_t at = n;

		if (!g->domain || g->state != GUEST_RUNNING)
			continue;
		while (at > 0 && relief_by(chosen[at - 1]) < relief_by(g))
			at--;
		if (at == NAMED_MAX)
			continue;
		if (n < NAMED_MAX)
			n++;
		memmove(&chosen[at + 1], &chosen[at], (n - at - 1) * sizeof(chosen[0]));
		chosen[at] = g;
	}
	return n;
}

static void say_short(struct manager *m, uint64_t now_us)
{
	const struct guest *chosen[NAMED_MAX];
	struct bus_relief list[NAMED_MAX];
	size_t n = choose(m, chosen);

	m->short_said_us = now_us;
	for (size_t i = 0; i < n; i++)
		list[i] = (struct bus_relief){chosen[i]->name, relief_by(chosen[i])};
	log_notice("the host has been short of memory for %" PRIu64
		   " s; %s%s would help most by leaving",
		(now_us - m->low_since_us) / US_PER_S, n ? "guest " : "no guest of libvirt",
		n ? chosen[0]->name : "");
	bus_host_short(m->bus, now_us - m->low_since_us, list, n);
}

static void watch_state(struct manager *m, uint64_t now_us)
{
	if (m->host_state != MEMD_HOST_LOW) {
		m->low_since_us = m->short_said_us = 0;
		return;
	}
	if (m->low_since_us == 0)
		m->low_since_us = now_us;
	if (now_us - m->low_since_us >= m->config.migrate_after_us &&
		(m->short_said_us == 0 || now_us - m->short_said_us >= SAY_AGAIN_US))
		say_short(m, now_us);
}

void relief_tick(struct manager *m, uint64_t now_us)
{
	watch_state(m, now_us);
	if (m->ksm)
		steer_merging(m, now_us);
}
