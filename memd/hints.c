/* Decides when to ask for free memory; see hints.h. */
#include "memd/hints.h"

#include "memd/base/overflow.h"

static uint64_t worth_bytes(const struct hints_in *in)
{
	return u64_max(in->configured_bytes / HINTS_WORTH_PART, HINTS_WORTH_MIN);
}

/* What the last run brought decides when the next may be. */
static void judge_last_run(struct hints *h, const struct hints_in *in)
{
	if (!h->waiting || in->runs == h->runs)
		return;
	h->waiting = false;
	if (u64_sub_or_zero(in->dropped_bytes, h->dropped_bytes) >= worth_bytes(in))
		h->again_us = HINTS_AGAIN_US;
	else
		h->again_us = u64_min(2 * h->again_us, HINTS_AGAIN_MAX_US);
}

bool hints_decide(struct hints *h, const struct hints_in *in)
{
	if (!in->possible) {
		*h = (struct hints){0};
		return false;
	}
	judge_last_run(h, in);
	if (!in->wanted)
		return false;
	if (h->asked_us != 0 && in->now_us - h->asked_us < h->again_us)
		return false;
	if (in->free_bytes != UINT64_MAX &&
		u64_sub_or_zero(in->free_bytes, in->hole_bytes) < worth_bytes(in))
		return false;
	h->again_us = u64_max(h->again_us, HINTS_AGAIN_US);
	h->asked_us = in->now_us;
	h->dropped_bytes = in->dropped_bytes;
	h->runs = in->runs;
	h->waiting = true;
	return true;
}
