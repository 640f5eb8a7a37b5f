/* See condition.h. */
#include "balloon-agent/condition.h"

#include <inttypes.h>
#include <stdio.h>

#include "memd/base/overflow.h"
#include "memd/base/units.h"

#define KEEP_PART     16
#define KEEP_MIN      (8 * MIB)
#define CRITICAL_PART 64
#define CRITICAL_MIN  (4 * MIB)
/* Tasks that wait: asks, or gives nothing, from this part of the time on; distress when all wait. */
#define WAITS_BP      1000
#define STANDS_BP     2000
/* Less than this is not worth the trouble. */
#define GIVE_MIN      (1 * MIB)
/* Shorter looks say nothing about a part of the time. */
#define LOOK_MIN_US   UINT64_C(200000)

static uint64_t keep_bytes(const struct agent_message *f)
{
	return u64_max(agent_get(f, AGENT_TOTAL, 0) / KEEP_PART, KEEP_MIN) +
	       agent_get(f, AGENT_WATERMARK_HIGH, 0);
}

static uint64_t critical_bytes(const struct agent_message *f)
{
	return u64_max(agent_get(f, AGENT_TOTAL, 0) / CRITICAL_PART, CRITICAL_MIN);
}

/* A kernel that says nothing is taken to have enough. */
static uint64_t available_bytes(const struct agent_message *f)
{
	return agent_get(f, AGENT_AVAILABLE, UINT64_MAX);
}

static bool swap_runs_out(const struct agent_message *f)
{
	return agent_get(f, AGENT_SWAP_FREE, 0) <= agent_get(f, AGENT_SWAP_TOTAL, 0) / 8;
}

static uint32_t part_bp(uint64_t us, uint64_t of_us)
{
	return of_us ? (uint32_t)u64_min((uint64_t)((unsigned __int128)us * 10000 / of_us), 10000)
		     : 0;
}

/* The parts of the time since the last look, and the kills in it. */
static uint64_t look(struct condition *c, const struct agent_message *f, uint64_t now_us)
{
	uint64_t some_us = agent_get(f, AGENT_PRESSURE_SOME_US, 0);
	uint64_t full_us = agent_get(f, AGENT_PRESSURE_FULL_US, 0);
	uint64_t kills = agent_get(f, AGENT_OOM_KILLS, 0);
	uint64_t new_kills = c->begun ? u64_sub_or_zero(kills, c->oom_kills) : 0;
	uint64_t for_us = now_us - c->looked_us;

	c->oom_kills = kills;
	if (c->begun && for_us < LOOK_MIN_US)
		return new_kills;
	if (c->begun) {
		c->some_bp = part_bp(u64_sub_or_zero(some_us, c->some_us), for_us);
		c->full_bp = part_bp(u64_sub_or_zero(full_us, c->full_us), for_us);
	}
	c->begun = true;
	c->some_us = some_us;
	c->full_us = full_us;
	c->looked_us = now_us;
	return new_kills;
}

static void judge(const struct condition *c, const struct agent_message *f, uint64_t new_kills,
	struct condition_said *ret)
{
	uint64_t available = available_bytes(f), keep = keep_bytes(f);
	size_t room = sizeof(ret->reason);

	*ret = (struct condition_said){.word = CONDITION_DISTRESS};
	if (new_kills)
		snprintf(ret->reason, room, "the kernel killed %" PRIu64 " for want of memory",
			new_kills);
	else if (available < critical_bytes(f))
		snprintf(ret->reason, room, "%s are available of %s", UNITS_BYTES(available),
			UNITS_BYTES(agent_get(f, AGENT_TOTAL, 0)));
	else if (available < keep && c->full_bp >= STANDS_BP)
		snprintf(ret->reason, room, "all tasks wait for memory %u %% of the time",
			c->full_bp / 100);
	else
		ret->word = CONDITION_FINE;
	if (ret->word == CONDITION_DISTRESS || available >= keep / 2 ||
		(c->some_bp < WAITS_BP && !swap_runs_out(f)))
		return;
	ret->word = CONDITION_ASK;
	ret->bytes = keep - available;
	snprintf(ret->reason, room, "%s are available, %s are kept so", UNITS_BYTES(available),
		UNITS_BYTES(keep));
}

void condition_look(struct condition *c, const struct agent_message *figures, uint64_t now_us,
	struct condition_said *ret)
{
	uint64_t new_kills = look(c, figures, now_us);

	judge(c, figures, new_kills, ret);
	if (ret->word == CONDITION_FINE)
		return;
	c->trouble_us = now_us;
	if (ret->word <= c->said && now_us - c->said_us < CONDITION_REPEAT_US && !new_kills) {
		*ret = (struct condition_said){0};
		return;
	}
	c->said = ret->word;
	c->said_us = now_us;
}

uint64_t condition_spare_bytes(const struct agent_message *figures)
{
	return agent_has(figures, AGENT_AVAILABLE)
		       ? u64_sub_or_zero(available_bytes(figures), keep_bytes(figures))
		       : 0;
}

bool condition_refuses(const struct condition *c, const struct agent_message *figures,
	uint64_t wanted_bytes, uint64_t now_us, char *reason)
{
	uint64_t spare = condition_spare_bytes(figures);
	size_t room = AGENT_TEXT_MAX + 1;

	if (c->trouble_us && now_us - c->trouble_us < CONDITION_SETTLE_US)
		snprintf(reason, room, "was short of memory %" PRIu64 " s ago",
			(now_us - c->trouble_us) / 1000000);
	else if (c->some_bp >= WAITS_BP)
		snprintf(reason, room, "tasks wait for memory %u %% of the time", c->some_bp / 100);
	else if (spare < u64_min(GIVE_MIN, wanted_bytes))
		snprintf(reason, room, "%s are available, %s are kept so",
			UNITS_BYTES(agent_get(figures, AGENT_AVAILABLE, 0)),
			UNITS_BYTES(keep_bytes(figures)));
	else
		return false;
	return true;
}

uint64_t condition_floor_bytes(const struct agent_message *figures, uint64_t configured_bytes)
{
	return u64_max(configured_bytes, agent_get(figures, AGENT_UNEVICTABLE, 0) +
						 agent_get(figures, AGENT_HUGETLB, 0) +
						 keep_bytes(figures));
}
