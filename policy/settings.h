/*
 * Settings of the built-in policies: `Key=value` for all guests and `Key@PATTERN=value` for those
 * whose name matches (fnmatch(3): `*`, `?`, `[...]`); of several that match, the last counts.
 *
 * A policy's config functions have no state of their own (they come before open), so that each
 * built-in keeps one draft: settings_set fills it, settings_take hands it to the state that opens
 * and leaves the defaults, and so does a setting that is refused.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "memd/policy.h"

enum setting_type {
	SETTING_PERCENT, /* basis points */
	SETTING_TIME, /* microseconds */
	SETTING_BYTES,
};

struct setting {
	const char *key;
	enum setting_type type;
	uint64_t initial, min, max;
};

#define SETTINGS_MAX	  8
#define SETTING_RULES_MAX 1024

struct setting_rule {
	char *pattern;
	size_t key;
	uint64_t value;
};

struct settings {
	const struct setting *keys;
	size_t n_keys; /* at most SETTINGS_MAX */
	uint64_t values[SETTINGS_MAX]; /* once is_set; else the initial one */
	uint32_t is_set; /* bits */
	struct setting_rule *rules; /* in the order they came */
	size_t n_rules;
};

/* -EINVAL, -ERANGE, -ENOMEM after saying why by calls->log; the draft has the defaults then. */
int settings_set(struct settings *draft, const struct memd_host_calls *calls, const char *key,
	const char *value);
/* Moves the draft to *ret, which is ended by settings_done. */
void settings_take(struct settings *draft, struct settings *ret);
void settings_done(struct settings *s);
/* The value for a guest of that name; NULL: for all. */
uint64_t settings_get(const struct settings *s, size_t key, const char *guest_name);
