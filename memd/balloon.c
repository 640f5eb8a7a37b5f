/* Decides about one balloon; see balloon.h. */
#include "memd/balloon.h"

#include "memd/base/overflow.h"
#include "memd/base/units.h"

/* Left to the guest of what it says it could spare: 1/16 of its memory, at least 8 MiB. */
#define SPARE_PART     16
#define SPARE_MIN      (8 * MIB)
/* Below this part (1/64, at least 4 MiB) a guest is out of memory. */
#define DISTRESS_PART  64
#define DISTRESS_MIN   (4 * MIB)
/* Nearer by so much is progress. */
#define PROGRESS_BYTES (1 * MIB)

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

static bool in_distress(const struct balloon_in *in)
{
	uint64_t tiny = u64_max(in->configured_bytes / DISTRESS_PART, DISTRESS_MIN);

	return in->distress || (in->available_bytes < tiny && (in->actual_bytes > 0 || in->faulting));
}

uint64_t balloon_wanted_bytes(const struct balloon_in *in)
{
	uint64_t may_use = u64_sub_or_zero(in->target_bytes, in->overhead_bytes) +
			   in->saved_sharing_bytes + in->hole_zero_bytes;
	uint64_t bytes = u64_sub_or_zero(in->configured_bytes, may_use);

	bytes = u64_min(bytes, in->configured_bytes / 10000 * in->max_bp);
	if (in->available_bytes != UINT64_MAX) {
		uint64_t spare = u64_max(in->configured_bytes / SPARE_PART, SPARE_MIN);

		bytes = u64_min(
			bytes, u64_sub_or_zero(in->actual_bytes + in->available_bytes, spare));
	}
	return u64_align_down(bytes, PAGE_BYTES);
}

static uint64_t wanted_bytes(const struct balloon_in *in)
{
	uint64_t bytes = balloon_wanted_bytes(in);

	return in->asked ? u64_align_down(u64_min(bytes, in->consent_bytes), PAGE_BYTES) : bytes;
}

/* A claim from before the balloon last moved does not know what that took. */
static bool claim_is_stale(const struct balloon *b, const struct balloon_in *in)
{
	return in->available_bytes != UINT64_MAX && in->claimed_us <= b->moved_us;
}

/* Notes whether the driver still moves towards what it was asked for. */
static void watch_progress(struct balloon *b, const struct balloon_in *in)
{
	if (in->actual_bytes + PROGRESS_BYTES > b->target_bytes ||
		in->actual_bytes >= b->best_bytes + PROGRESS_BYTES) {
		b->best_bytes = in->actual_bytes;
		b->progress_us = in->now_us;
	} else if (in->now_us - b->progress_us >= BALLOON_STUCK_US) {
		b->stuck = true;
		b->quiet_until_us = in->now_us + BALLOON_RETRY_US;
	}
}

uint64_t balloon_decide(struct balloon *b, const struct balloon_in *in)
{
	uint64_t bytes;

	if (!in->ready || !in->wanted) {
		*b = (struct balloon){.progress_us = in->now_us};
		return 0;
	}
	if (in->actual_bytes != b->last_actual_bytes) {
		b->last_actual_bytes = in->actual_bytes;
		b->moved_us = in->now_us;
	}
	if (in_distress(in)) {
		*b = (struct balloon){
			.progress_us = in->now_us,
			.quiet_until_us = in->now_us + BALLOON_SETTLE_US,
			.last_actual_bytes = in->actual_bytes,
			.moved_us = in->now_us,
			.distress = true,
		};
		return 0;
	}
	if (b->quiet_until_us == 0)
		watch_progress(b, in);
	if (in->now_us < b->quiet_until_us) {
		if (b->distress)
			return 0;
		/* Stuck: it keeps what it has, and may be told to have less. */
		return u64_align_down(u64_min(wanted_bytes(in), in->actual_bytes), PAGE_BYTES);
	}
	if (b->quiet_until_us != 0)
		*b = (struct balloon){
			.best_bytes = in->actual_bytes,
			.progress_us = in->now_us,
			.last_actual_bytes = in->actual_bytes,
		};
	bytes = wanted_bytes(in);
	if (bytes > b->target_bytes && claim_is_stale(b, in))
		return b->target_bytes;
	if (distance(bytes, b->target_bytes) >= PROGRESS_BYTES)
		b->target_bytes = bytes;
	return b->target_bytes;
}

bool balloon_host_decide(struct balloon_host *h, enum balloon_host_state state, uint64_t now_us,
	uint64_t used_bytes, uint64_t held_bytes, uint64_t budget_bytes)
{
	if (state == BALLOON_HOST_SHORT) {
		h->wanted = true;
		h->plenty_since_us = 0;
	} else if (h->plenty_since_us == 0) {
		h->plenty_since_us = now_us;
	} else if (now_us - h->plenty_since_us >= BALLOON_PLENTY_US &&
		   used_bytes + held_bytes <= budget_bytes / 10 * 9) {
		h->wanted = false;
	}
	return h->wanted;
}
