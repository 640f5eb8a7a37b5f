/* Admission and forecast; see admission.h. */
#include "policy/admission.h"

#include "memd/base/overflow.h"

typedef unsigned __int128 u128;

static uint64_t promised_of(const struct admission_guest *g)
{
	return u64_min(g->floor_bytes, UINT64_MAX - g->overhead_bytes) + g->overhead_bytes;
}

/* What it may have beyond, which needs swap behind it. */
static uint64_t beyond_of(const struct admission_guest *g)
{
	return u64_sub_or_zero(g->max_bytes, g->floor_bytes);
}

/* How many of size fit into what whole has left beside used. */
static uint64_t count(uint64_t whole, u128 used, uint64_t size)
{
	if (used >= whole)
		return 0;
	if (size == 0)
		return ADMISSION_MANY;
	return u64_min((uint64_t)((whole - used) / size), ADMISSION_MANY);
}

/* Memory that is not backed by swap has to fit itself. */
static uint64_t count_backed(const struct admission_host *host, const struct admission_guest *g)
{
	u128 backing = (u128)host->budget_bytes + host->swap_bytes;
	u128 used = (u128)host->fixed_bytes + host->reserved_bytes + host->backed_bytes;
	u128 size = (u128)promised_of(g) + beyond_of(g);

	if (used >= backing)
		return 0;
	if (size == 0)
		return ADMISSION_MANY;
	return (backing - used) / size > ADMISSION_MANY ? ADMISSION_MANY
							: (uint64_t)((backing - used) / size);
}

static uint64_t count_floors(const struct admission_host *host, const struct admission_guest *g)
{
	return count(
		host->budget_bytes, (u128)host->fixed_bytes + host->reserved_bytes, promised_of(g));
}

static uint64_t count_room(const struct admission_host *host, const struct admission_guest *g)
{
	return count(
		host->budget_bytes, (u128)host->used_bytes + host->waiting_bytes, promised_of(g));
}

enum admission_limit admission_check(
	const struct admission_host *host, const struct admission_guest *guest)
{
	if (count_floors(host, guest) == 0)
		return ADMISSION_FLOORS;
	return count_room(host, guest) == 0 ? ADMISSION_ROOM : ADMISSION_FITS;
}

const char *admission_limit_name(enum admission_limit limit)
{
	static const char *const names[] = {"", "floors", "room"};

	return names[limit];
}

void admission_forecast(const struct admission_host *host, const struct admission_guest *guest,
	struct admission_forecast *ret)
{
	uint64_t n = count_floors(host, guest);
	u128 used =
		(u128)host->fixed_bytes + host->reserved_bytes + (u128)(n + 1) * promised_of(guest);
	u128 working = (u128)host->fixed_bytes + host->waiting_bytes + host->working_set_bytes;

	*ret = (struct admission_forecast){
		.n = n,
		.n_now = u64_min(n, count_room(host, guest)),
		.n_comfortable = u64_min(n, count(host->budget_bytes, working, promised_of(guest))),
		.n_backed = u64_min(n, count_backed(host, guest)),
	};
	if (used > host->budget_bytes)
		ret->missing_bytes = used - host->budget_bytes > UINT64_MAX
					     ? UINT64_MAX
					     : (uint64_t)(used - host->budget_bytes);
}
