/* Settings of the built-in policies; see settings.h. */
#include "policy/settings.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "memd/base/cleanup.h"
#include "memd/base/error.h"
#include "memd/base/units.h"

static int parse(const struct setting *s, const char *text, uint64_t *ret, struct error *e)
{
	uint32_t bp;
	int r;

	switch (s->type) {
	case SETTING_PERCENT:
		r = units_parse_percent(text, &bp, e);
		if (r == 0)
			*ret = bp;
		return r;
	case SETTING_TIME:
		return units_parse_time(text, ret, e);
	case SETTING_BYTES:
		return units_parse_bytes(text, ret, e);
	}
	return -EINVAL;
}

static int refuse_bounds(const struct setting *s, const char *text, struct error *e)
{
	switch (s->type) {
	case SETTING_PERCENT:
		return error_set(e, -ERANGE, "%s=%.64s is out of bounds: %g%% to %g%%", s->key,
			text, (double)s->min / 100, (double)s->max / 100);
	case SETTING_TIME:
		return error_set(e, -ERANGE, "%s=%.64s is out of bounds: %gs to %gs", s->key, text,
			(double)s->min / 1e6, (double)s->max / 1e6);
	case SETTING_BYTES:
		return error_set(e, -ERANGE, "%s=%.64s is out of bounds: %s to %s", s->key, text,
			UNITS_BYTES(s->min), UNITS_BYTES(s->max));
	}
	return -EINVAL;
}

static int find(const struct settings *s, const char *key, size_t length, struct error *e)
{
	char names[256] = "";

	for (size_t i = 0; i < s->n_keys; i++) {
		if (strlen(s->keys[i].key) == length && strncmp(s->keys[i].key, key, length) == 0)
			return (int)i;
		strncat(names, i ? ", " : "", sizeof(names) - strlen(names) - 1);
		strncat(names, s->keys[i].key, sizeof(names) - strlen(names) - 1);
	}
	return error_set(
		e, -EINVAL, "there is no setting %.*s=; there are %s", (int)length, key, names);
}

static int add_rule(
	struct settings *s, const char *pattern, size_t key, uint64_t value, struct error *e)
{
	struct setting_rule *larger;
	char *copy;

	if (!pattern[0])
		return error_set(e, -EINVAL, "after @ comes the name of a guest, or a pattern");
	if (s->n_rules == SETTING_RULES_MAX)
		return error_set(e, -ERANGE, "more than %d settings with @", SETTING_RULES_MAX);
	larger = reallocarray(s->rules, s->n_rules + 1, sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	s->rules = larger;
	copy = strdup(pattern);
	if (!copy)
		return -ENOMEM;
	s->rules[s->n_rules++] = (struct setting_rule){copy, key, value};
	return 0;
}

static int set(struct settings *s, const char *key, const char *text, struct error *e)
{
	const char *pattern = strchr(key, '@');
	uint64_t value;
	int i, r;

	i = find(s, key, pattern ? (size_t)(pattern - key) : strlen(key), e);
	if (i < 0)
		return i;
	r = parse(&s->keys[i], text, &value, e);
	if (r < 0) {
		error_prefix(e, "%s=%.64s", key, text);
		return r;
	}
	if (value < s->keys[i].min || value > s->keys[i].max)
		return refuse_bounds(&s->keys[i], text, e);
	if (pattern)
		return add_rule(s, pattern + 1, (size_t)i, value, e);
	s->values[i] = value;
	s->is_set |= UINT32_C(1) << i;
	return 0;
}

int settings_set(struct settings *draft, const struct memd_host_calls *calls, const char *key,
	const char *value)
{
	struct error e = {0};
	int r;

	r = set(draft, key, value, &e);
	if (r < 0) {
		if (e.text[0])
			calls->log(calls->host, LOG_ERR, e.text);
		settings_done(draft);
	}
	return r;
}

void settings_take(struct settings *draft, struct settings *ret)
{
	*ret = *draft;
	*draft = (struct settings){.keys = ret->keys, .n_keys = ret->n_keys};
}

void settings_done(struct settings *s)
{
	for (size_t i = 0; i < s->n_rules; i++)
		free(s->rules[i].pattern);
	free(s->rules);
	*s = (struct settings){.keys = s->keys, .n_keys = s->n_keys};
}

uint64_t settings_get(const struct settings *s, size_t key, const char *guest_name)
{
	uint64_t value = s->is_set & UINT32_C(1) << key ? s->values[key] : s->keys[key].initial;

	if (!guest_name)
		return value;
	for (size_t i = 0; i < s->n_rules; i++)
		if (s->rules[i].key == key && fnmatch(s->rules[i].pattern, guest_name, 0) == 0)
			value = s->rules[i].value;
	return value;
}
