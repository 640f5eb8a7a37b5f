/* See pace.h. */
#include "memd/pace.h"

#include "memd/base/clock.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"

#define STEP_PART   100 /* of what is resident, each time */
#define COLD_TIMES  8
#define WAIT_MIN_US US_PER_S
#define WAIT_MAX_US (64 * US_PER_S)
/* Unused rate is kept for so long. */
#define CREDIT_S    10

static void earn(struct pace *p, const struct pace_in *in)
{
	double earned = (double)in->rate_bytes * (double)(in->now_us - p->last_us) / US_PER_S;
	double most = (double)in->rate_bytes * CREDIT_S;

	p->credit_bytes = p->last_us ? p->credit_bytes + earned : (double)in->rate_bytes;
	if (p->credit_bytes > most)
		p->credit_bytes = most;
	p->last_us = in->now_us;
}

static void back_off(struct pace *p, uint64_t now_us)
{
	if (now_us < p->again_us)
		return;
	p->wait_us = p->wait_us ? u64_min(p->wait_us * 2, WAIT_MAX_US) : WAIT_MIN_US;
	p->again_us = now_us + p->wait_us;
	p->backoffs++;
}

void pace_decide(struct pace *p, const struct pace_in *in, struct pace_out *ret)
{
	uint64_t step, most;

	*ret = (struct pace_out){0};
	earn(p, in);
	if (in->stall_bp >= in->budget_bp)
		back_off(p, in->now_us);
	if (in->now_us < p->again_us || in->stall_bp >= in->budget_bp)
		return;
	if (in->stall_bp < in->budget_bp / 2 && p->wait_us &&
		in->now_us >= p->again_us + p->wait_us) {
		p->wait_us /= 2;
		p->again_us = in->now_us;
	}
	step = in->resident_bytes / STEP_PART * (in->budget_bp - in->stall_bp) / in->budget_bp;
	most = in->rate_bytes ? (uint64_t)(p->credit_bytes > 0 ? p->credit_bytes : 0) : UINT64_MAX;
	/* A region is the least that can go. */
	ret->other_bytes = u64_min(u64_max(step, CHUNK_BYTES), most);
	ret->cold_bytes = u64_min(u64_max(step * COLD_TIMES, CHUNK_BYTES), most);
}

void pace_spend(struct pace *p, uint64_t bytes)
{
	p->credit_bytes -= (double)bytes;
}
