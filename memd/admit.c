/* Who may start: the manager's figures for policy/admission.h. Decides nothing itself. */
#include <inttypes.h>
#include <stdio.h>

#include "memd/base/overflow.h"
#include "memd/base/units.h"
#include "memd/manager.h"

/* What a memd-vmm takes beside the guest's RAM, for admission: measured 3 to 6 MiB. */
#define GUEST_OVERHEAD_BYTES (8 * MIB)

/* What of the budget is no guest's. */
static uint64_t fixed_bytes(const struct manager *m)
{
	uint64_t bytes = m->ledger.used_bytes;

	for (size_t i = 0; i < m->n_guests; i++)
		bytes = u64_sub_or_zero(bytes, m->guests[i]->ledger.resident_bytes);
	/* what swap takes is given back when less is swapped: it is nobody's for good */
	return u64_sub_or_zero(bytes, m->ledger.swap_occupied_bytes);
}

/* What the guest would cost if all went out that it does not use. */
static uint64_t in_use_bytes(const struct guest *g)
{
	if (!g->wss.figures.valid)
		return g->ledger.resident_bytes;
	return u64_min(g->ledger.resident_bytes, g->wss.figures.bytes + g->ledger.overhead_bytes);
}

static struct admission_host host_of(const struct manager *m)
{
	struct admission_host host = {
		.budget_bytes = m->budget_bytes,
		.used_bytes = m->ledger.used_bytes,
		.fixed_bytes = fixed_bytes(m),
		.swap_bytes = m->config.paging ? m->swap.used_bytes + m->swap.free_bytes : 0,
	};

	for (size_t i = 0; i < m->n_guests; i++) {
		const struct guest *g = m->guests[i];

		host.reserved_bytes += g->min_bytes + GUEST_OVERHEAD_BYTES;
		host.backed_bytes += u64_sub_or_zero(g->max_bytes, g->min_bytes);
		host.working_set_bytes += in_use_bytes(g);
		if (!g->sample.valid)
			host.waiting_bytes += g->min_bytes + GUEST_OVERHEAD_BYTES;
	}
	return host;
}

static struct admission_guest guest_of(const struct guest_config *config)
{
	return (struct admission_guest){
		.floor_bytes = guest_config_min_bytes(config),
		.overhead_bytes = GUEST_OVERHEAD_BYTES,
		.max_bytes = guest_config_max_bytes(config),
	};
}

int admit_guest(struct manager *m, const struct guest_config *config, struct refusal *refusal)
{
	struct admission_host host = host_of(m);
	struct admission_guest guest = guest_of(config);

	if (admission_check(&host, &guest) != ADMISSION_FLOORS)
		return 0;
	return refusal_set(refusal, REFUSAL_BELOW_FLOOR, -ENOSPC,
		"the guest's floor of %s (MemoryMin=, and %s for its memd-vmm) does not fit: "
		"floors of %zu guests take %s of the budget of %s, memd itself %s; lower "
		"MemoryMin=, stop a guest or raise HostMemoryBudget=",
		UNITS_BYTES(guest.floor_bytes + guest.overhead_bytes),
		UNITS_BYTES(guest.overhead_bytes), m->n_guests, UNITS_BYTES(host.reserved_bytes),
		UNITS_BYTES(host.budget_bytes), UNITS_BYTES(host.fixed_bytes));
}

void admit_forecast(struct manager *m, const struct guest_config *config,
	struct admission_forecast *ret, char *reason, size_t reason_size)
{
	struct admission_host host = host_of(m);
	struct admission_guest guest = guest_of(config);

	admission_forecast(&host, &guest, ret);
	snprintf(reason, reason_size,
		"each is promised its floor of %s and %s for its memd-vmm; of the budget of %s, "
		"floors of %zu guests take %s and memd itself %s; one more than %" PRIu64
		" lacks %s",
		UNITS_BYTES(guest.floor_bytes), UNITS_BYTES(guest.overhead_bytes),
		UNITS_BYTES(host.budget_bytes), m->n_guests, UNITS_BYTES(host.reserved_bytes),
		UNITS_BYTES(host.fixed_bytes), ret->n, UNITS_BYTES(ret->missing_bytes));
}
