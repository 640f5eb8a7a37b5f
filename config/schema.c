/*
 * Values by schema. Knows types, not meanings: what two keys say together is checked where they are
 * used.
 */
#include "config/schema.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config/config.h"
#include "memd/base/text.h"

static bool is_string(enum schema_type type)
{
	return type == SCHEMA_TEXT || type == SCHEMA_PATH || type == SCHEMA_NAME ||
	       type == SCHEMA_LINES;
}

static void *field(const struct schema_key *key, void *object)
{
	return (char *)object + key->offset;
}

static int check_bounds(const struct schema_key *key, uint64_t value, struct error *e)
{
	if (key->min == 0 && key->max == 0)
		return 0;
	if (value >= key->min && value <= key->max)
		return 0;
	switch (key->type) {
	case SCHEMA_BYTES:
	case SCHEMA_SIZE:
		return error_set(e, -ERANGE, "it must be between %s and %s", UNITS_BYTES(key->min),
			UNITS_BYTES(key->max));
	case SCHEMA_PERCENT:
		return error_set(e, -ERANGE, "it must be between %g%% and %g%%",
			(double)key->min / 100, (double)key->max / 100);
	case SCHEMA_TIME:
		return error_set(e, -ERANGE, "it must be between %gs and %gs",
			(double)key->min / 1e6, (double)key->max / 1e6);
	case SCHEMA_TEXT:
	case SCHEMA_PATH:
	case SCHEMA_NAME:
	case SCHEMA_LINES:
		return error_set(e, -ERANGE, "it must have %llu to %llu characters",
			(unsigned long long)key->min, (unsigned long long)key->max);
	default:
		return error_set(e, -ERANGE, "it must be between %llu and %llu",
			(unsigned long long)key->min, (unsigned long long)key->max);
	}
}

static int set_u64(const struct schema_key *key, void *object, const char *value, struct error *e)
{
	uint64_t v;
	int r;

	r = key->type == SCHEMA_TIME ? units_parse_time(value, &v, e)
				     : units_parse_bytes(value, &v, e);
	if (r == 0)
		r = check_bounds(key, v, e);
	if (r < 0)
		return r;
	*(uint64_t *)field(key, object) = v;
	return 0;
}

static int set_u32(const struct schema_key *key, void *object, const char *value, struct error *e)
{
	uint64_t number;
	uint32_t bp;
	int r;

	if (key->type == SCHEMA_PERCENT) {
		r = units_parse_percent(value, &bp, e);
		number = bp;
	} else {
		r = units_parse_u64(value, UINT32_MAX, &number, e);
	}
	if (r == 0)
		r = check_bounds(key, number, e);
	if (r < 0)
		return r;
	*(uint32_t *)field(key, object) = (uint32_t)number;
	return 0;
}

/* The bounds are those of absolute sizes; of a fraction only its owner knows the whole. */
static int set_size(const struct schema_key *key, void *object, const char *value, struct error *e)
{
	struct config_size size = {.bp = CONFIG_SIZE_ABSOLUTE};
	int r;

	if (strchr(value, '%')) {
		r = units_parse_percent(value, &size.bp, e);
	} else {
		r = units_parse_bytes(value, &size.bytes, e);
		if (r == 0)
			r = check_bounds(key, size.bytes, e);
	}
	if (r < 0)
		return r;
	*(struct config_size *)field(key, object) = size;
	return 0;
}

static int set_bool(const struct schema_key *key, void *object, const char *value, struct error *e)
{
	static const char *const yes[] = {"yes", "true", "on", "1"};
	static const char *const no[] = {"no", "false", "off", "0"};

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		bool is_yes = strcasecmp(value, yes[i]) == 0;

		if (!is_yes && strcasecmp(value, no[i]) != 0)
			continue;
		*(bool *)field(key, object) = is_yes;
		return 0;
	}
	return error_set(e, -EINVAL, "'%.64s' is neither yes nor no", value);
}

static int set_word(const struct schema_key *key, void *object, const char *value, struct error *e)
{
	char known[128] = "";
	size_t used = 0;

	for (unsigned i = 0; key->words[i]; i++) {
		if (strcmp(value, key->words[i]) == 0) {
			memcpy(field(key, object), &i,
				sizeof(i)); /* an enum is an unsigned int to gcc and clang */
			return 0;
		}
		if (used < sizeof(known))
			used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
				i ? ", " : "", key->words[i]);
	}
	return error_set(e, -EINVAL, "'%.64s' is none of %s", value, known);
}

static int check_string(const struct schema_key *key, const char *value, struct error *e)
{
	if (!text_is_clean(value))
		return error_set(e, -EINVAL, "the value is no UTF-8, or has control characters");
	if (key->type == SCHEMA_PATH && value[0] != '/')
		return error_set(e, -EINVAL, "'%.200s' is no absolute path", value);
	if (key->type == SCHEMA_NAME && !guest_name_valid(value, e))
		return -EINVAL;
	return check_bounds(key, strlen(value), e);
}

static int set_string(
	const struct schema_key *key, void *object, const char *value, struct error *e)
{
	char **target = field(key, object);
	char *copy;
	int r;

	r = check_string(key, value, e);
	if (r < 0)
		return r;
	if (key->type == SCHEMA_LINES && *target)
		r = asprintf(&copy, "%s\n%s", *target, value);
	else
		r = asprintf(&copy, "%s", value);
	if (r < 0)
		return -ENOMEM;
	free(*target);
	*target = copy;
	return 0;
}

static void set_nothing(const struct schema_key *key, void *object)
{
	switch (key->type) {
	case SCHEMA_TEXT:
	case SCHEMA_PATH:
	case SCHEMA_NAME:
	case SCHEMA_LINES:
		free(*(char **)field(key, object));
		*(char **)field(key, object) = NULL;
		break;
	case SCHEMA_BYTES:
	case SCHEMA_TIME:
		*(uint64_t *)field(key, object) = 0;
		break;
	case SCHEMA_SIZE:
		*(struct config_size *)field(key, object) =
			(struct config_size){.bp = CONFIG_SIZE_ABSOLUTE};
		break;
	case SCHEMA_BOOL:
		*(bool *)field(key, object) = false;
		break;
	case SCHEMA_PERCENT:
	case SCHEMA_U32:
	case SCHEMA_WORD:
		*(uint32_t *)field(key, object) = 0;
		break;
	}
}

int schema_set(const struct schema_key *key, void *object, const char *value, struct error *e)
{
	if (!*value) {
		if (!key->initial) {
			set_nothing(key, object);
			return 0;
		}
		value = key->initial;
	}
	switch (key->type) {
	case SCHEMA_BYTES:
	case SCHEMA_TIME:
		return set_u64(key, object, value, e);
	case SCHEMA_PERCENT:
	case SCHEMA_U32:
		return set_u32(key, object, value, e);
	case SCHEMA_SIZE:
		return set_size(key, object, value, e);
	case SCHEMA_BOOL:
		return set_bool(key, object, value, e);
	case SCHEMA_WORD:
		return set_word(key, object, value, e);
	case SCHEMA_TEXT:
	case SCHEMA_PATH:
	case SCHEMA_NAME:
	case SCHEMA_LINES:
		return set_string(key, object, value, e);
	}
	return -EINVAL;
}

int schema_init(const struct schema *s, void *object)
{
	memset(object, 0, s->struct_bytes);
	for (size_t i = 0; i < s->n_keys; i++) {
		int r = schema_set(&s->keys[i], object, "", NULL);

		if (r < 0) {
			schema_done(s, object);
			return r;
		}
	}
	return 0;
}

void schema_done(const struct schema *s, void *object)
{
	for (size_t i = 0; i < s->n_keys; i++)
		if (is_string(s->keys[i].type))
			free(*(char **)field(&s->keys[i], object));
	memset(object, 0, s->struct_bytes);
}

#define COMPARED_MAX 48

/* Levenshtein's distance without regard to case; ~0 for words too long to be meant. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[COMPARED_MAX + 1];
	size_t n = strlen(b);

	if (n > COMPARED_MAX || strlen(a) > COMPARED_MAX)
		return ~0u;
	for (size_t j = 0; j <= n; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; a[i - 1]; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= n; j++) {
			bool equal = tolower((unsigned char)a[i - 1]) ==
				     tolower((unsigned char)b[j - 1]);
			unsigned best = diagonal + !equal;

			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[n];
}

/*
 * The nearest of the keys in the section, of all sections when that is NULL; NULL when key is too
 * long to be one.
 */
static const struct schema_key *nearest(
	const struct schema *s, const char *section, const char *key, unsigned *ret_distance)
{
	const struct schema_key *best = NULL;

	*ret_distance = ~0u;
	for (size_t i = 0; i < s->n_keys; i++) {
		unsigned d;

		if (section && strcmp(s->keys[i].section, section) != 0)
			continue;
		d = distance(s->keys[i].key, key);
		if (d < *ret_distance) {
			*ret_distance = d;
			best = &s->keys[i];
		}
	}
	return best;
}

static bool has_section(const struct schema *s, const char *section)
{
	for (size_t i = 0; i < s->n_keys; i++)
		if (strcmp(s->keys[i].section, section) == 0)
			return true;
	return false;
}

/* Says what is nearest to what is not there. */
static void suggest(const struct schema *s, const char *section, const char *key, struct error *e)
{
	const struct schema_key *near;
	unsigned d;

	if (!*section) {
		error_set(e, -EINVAL, "%.64s= stands before the first [Section]", key);
		return;
	}
	if (!has_section(s, section)) {
		near = nearest(s, NULL, key, &d);
		if (d == 0)
			error_set(e, -EINVAL, "unknown section [%.64s]; %s= belongs in [%s]",
				section, near->key, near->section);
		else
			error_set(e, -EINVAL, "unknown section [%.64s]", section);
		return;
	}
	near = nearest(s, NULL, key, &d);
	if (d == 0 && strcmp(near->section, section) != 0) {
		error_set(e, -EINVAL, "%s= belongs in [%s], not in [%s]", near->key, near->section,
			section);
		return;
	}
	near = nearest(s, section, key, &d);
	if (near)
		error_set(e, -EINVAL, "unknown key '%s' in [%s]; the nearest that is known is '%s'",
			key, section, near->key);
	else
		error_set(e, -EINVAL, "unknown key '%.64s...' in [%s]", key, section);
}

const struct schema_key *schema_find(
	const struct schema *s, const char *section, const char *key, struct error *e)
{
	for (size_t i = 0; i < s->n_keys; i++)
		if (strcmp(s->keys[i].section, section) == 0 && strcmp(s->keys[i].key, key) == 0)
			return &s->keys[i];
	suggest(s, section, key, e);
	return NULL;
}

int schema_set_entry(const struct schema *s, void *object, const char *path,
	const struct ini_entry *entry, struct error *e)
{
	const struct schema_key *key = schema_find(s, entry->section, entry->key, e);
	int r;

	if (!key) {
		error_prefix(e, "%s:%u", path, entry->line);
		return -EINVAL;
	}
	if (entry->continued_line && !key->multi_line)
		return error_set(e, -EINVAL,
			"%s:%u: an indented line goes on with the value before, which %s= does not "
			"allow; begin the line without blanks",
			path, entry->continued_line, key->key);
	r = schema_set(key, object, entry->value, e);
	if (r < 0)
		error_prefix(e, "%s:%u: %s=%.64s", path, entry->line, key->key, entry->value);
	return r;
}
