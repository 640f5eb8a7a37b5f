/* Claims against samples; see claims.h. */
#include "policy/claims.h"

#include "memd/base/overflow.h"
#include "memd/base/units.h"

/* Not a contradiction: less than this part of the guest, and of 16 MiB. */
#define SLACK_PART 16
#define SLACK_MIN  (16 * MIB)
#define WAITS_BP   100

static enum claims_verdict judge(const struct claims_in *in)
{
	uint64_t slack = u64_max(in->configured_bytes / SLACK_PART, SLACK_MIN);

	if (in->balloon_stuck)
		return CLAIMS_STUCK;
	if (in->available_bytes > u64_sub_or_zero(in->configured_bytes, in->balloon_bytes) + slack)
		return CLAIMS_IMPOSSIBLE;
	if (in->absent_bytes > slack && in->available_bytes < (in->absent_bytes - slack) / 2)
		return CLAIMS_TOO_LITTLE;
	return CLAIMS_SOUND;
}

enum claims_verdict claims_check(struct claims *c, const struct claims_in *in)
{
	enum claims_verdict v = judge(in);

	if (v == CLAIMS_SOUND) {
		if (in->fresh)
			c->strikes = 0;
		if (c->distrusted && in->now_us - c->struck_us >= CLAIMS_FORGIVE_US)
			c->distrusted = false;
		return v;
	}
	if (v == CLAIMS_STUCK)
		c->strikes = CLAIMS_STRIKES;
	else if (in->fresh && c->strikes < CLAIMS_STRIKES)
		c->strikes++;
	if (c->strikes >= CLAIMS_STRIKES) {
		c->distrusted = true;
		c->struck_us = in->now_us;
	}
	return v;
}

const char *claims_verdict_text(enum claims_verdict v)
{
	switch (v) {
	case CLAIMS_SOUND:
		return "";
	case CLAIMS_IMPOSSIBLE:
		return "claims more available memory than its balloon has left it";
	case CLAIMS_TOO_LITTLE:
		return "claims less available memory than it has never touched or has given back";
	case CLAIMS_STUCK:
		return "has a balloon that does not move";
	}
	return "";
}

bool claims_distress_is_seen(
	bool sampled, uint64_t working_set_bytes, uint64_t held_bytes, uint32_t stall_some_bp)
{
	return !sampled || working_set_bytes >= held_bytes / 2 || stall_some_bp >= WAITS_BP;
}
