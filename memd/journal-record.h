/*
 * One frame of the decision journal, in memory and as bytes (journal-format.h). The same struct is
 * what memd writes, what it explains from, and what a replay reads. Readers take the bytes for
 * hostile.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "memd/base/cleanup.h"
#include "memd/journal-format.h"
#include "memd/policy.h"
#include "policy/policy-host.h"

struct journal_record_guest {
	struct memd_guest_view view;
	struct journal_guest figures; /* sizes are filled in when it is written */
	const char *reason;
};

struct journal_record {
	struct journal_tick tick; /* likewise */
	const char *policy; /* that decided */
	struct memd_host_view host;
	struct journal_record_guest *guests; /* tick.n_guests; owned */
};

/* What has no name or text yet gets "". Frees the guests; the texts belong to somebody else. */
void journal_record_done(struct journal_record *r);
/* The guest of that name, NULL. */
const struct journal_record_guest *journal_record_find(
	const struct journal_record *r, const char *name);

/*
 * The whole frame, header and padding included; the caller's to free. -ENOMEM, -E2BIG above
 * JOURNAL_FRAME_BYTES_MAX.
 */
int journal_encode_tick(const struct journal_record *r, uint8_t **ret, size_t *ret_bytes);
/*
 * From the payload of a frame of type JOURNAL_TICK. Texts point into it; end with
 * journal_record_done. -EPROTO, -ENOMEM; *ret is untouched then.
 */
int journal_decode_tick(const uint8_t *payload, size_t n, struct journal_record *ret);

/* The same for a policy and its settings, and those of groups with a policy of their own. */
struct journal_policy_record {
	uint64_t realtime_us;
	const char *name;
	struct policy_setting *settings; /* owned; the texts are not */
	size_t n_settings;
	struct journal_group_setting {
		const char *group, *key, *value;
	} *group_settings; /* likewise */
	size_t n_group_settings;
};
void journal_policy_record_done(struct journal_policy_record *r);
int journal_encode_policy(const struct journal_policy_record *r, uint8_t **ret, size_t *ret_bytes);
int journal_decode_policy(const uint8_t *payload, size_t n, struct journal_policy_record *ret);
