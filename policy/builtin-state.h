/*
 * What a built-in policy keeps while it is open, and how its settings get there: the same for all
 * that have settings. Plugins link nothing of memd and keep what they like.
 */
#pragma once

#include "memd/policy.h"
#include "policy/by-guest.h"
#include "policy/settings.h"
#include "policy/vessels.h"

struct builtin_state {
	struct settings settings;
	struct by_guest guests; /* what is remembered of each guest; record_bytes 0: nothing */
	struct vessels vessels; /* room for a tick */
};

/* Takes the draft's settings. -ENOMEM. */
int builtin_state_open(struct settings *draft, size_t record_bytes, void **ret_state);
/* A struct memd_policy.close. */
void builtin_state_close(void *state);
/* The records of the view's guests, in their order; NULL without memory, or without guests. */
void *builtin_state_records(struct builtin_state *s, const struct memd_host_view *view);

/* configure and open_state of a policy with these settings, and records of so many bytes. */
#define DEFINE_BUILTIN_STATE(keys_, record_bytes_)                                                 \
	static struct settings draft = {.keys = (keys_), .n_keys = ARRAY_SIZE(keys_)};             \
                                                                                                   \
	static int configure(                                                                      \
		const struct memd_host_calls *calls, const char *key, const char *value)           \
	{                                                                                          \
		return settings_set(&draft, calls, key, value);                                    \
	}                                                                                          \
                                                                                                   \
	static int open_state(const struct memd_host_calls *calls, void **ret_state)               \
	{                                                                                          \
		(void)calls;                                                                       \
		return builtin_state_open(&draft, (record_bytes_), ret_state);                     \
	}
