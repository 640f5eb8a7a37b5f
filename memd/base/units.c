/*
 * Sizes, times and percentages as people write them. All arithmetic is done in 128 bits and checked
 * once at the end: a number of at most 20 digits times the largest unit (2^60) fits.
 */
#include "memd/base/units.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "memd/base/cleanup.h"

typedef unsigned __int128 u128;

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit byte_units[] = {
	{"", 1},
	{"B", 1},
	{"K", KIB},
	{"KiB", KIB},
	{"M", MIB},
	{"MiB", MIB},
	{"G", GIB},
	{"GiB", GIB},
	{"T", GIB << 10},
	{"TiB", GIB << 10},
};

static const struct unit time_units[] = {
	{"", 1000000},
	{"us", 1},
	{"ms", 1000},
	{"s", 1000000},
	{"min", 60 * UINT64_C(1000000)},
	{"h", 3600 * UINT64_C(1000000)},
};

/* INTEGER[.FRACTION], the value being number / scale; what follows is left to the caller. */
struct decimal {
	uint64_t number;
	uint64_t scale; /* 10 to the number of digits after the point */
};

#define FRACTION_DIGITS_MAX 9

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* -EINVAL: does not begin with a digit, or a point without digits; -ERANGE. */
static int parse_decimal(const char *text, struct decimal *ret, const char **ret_rest)
{
	struct decimal d = {.number = 0, .scale = 1};
	unsigned n_fraction = 0;

	if (!is_digit(*text))
		return -EINVAL;
	for (; is_digit(*text); text++)
		if (__builtin_mul_overflow(d.number, UINT64_C(10), &d.number) ||
			__builtin_add_overflow(d.number, (uint64_t)(*text - '0'), &d.number))
			return -ERANGE;
	if (*text == '.') {
		for (text++; is_digit(*text); text++, n_fraction++) {
			if (n_fraction == FRACTION_DIGITS_MAX)
				return -EINVAL;
			if (__builtin_mul_overflow(d.number, UINT64_C(10), &d.number) ||
				__builtin_add_overflow(
					d.number, (uint64_t)(*text - '0'), &d.number))
				return -ERANGE;
			d.scale *= 10;
		}
		if (n_fraction == 0)
			return -EINVAL;
	}
	*ret = d;
	*ret_rest = text;
	return 0;
}

/* d in units of factor, rounded down. */
static int scale_decimal(struct decimal d, uint64_t factor, uint64_t *ret)
{
	u128 v = (u128)d.number * factor / d.scale;

	if (v > UINT64_MAX)
		return -ERANGE;
	*ret = (uint64_t)v;
	return 0;
}

static int parse_with_units(
	const char *text, const struct unit *units, size_t n_units, uint64_t *ret)
{
	struct decimal d;
	const char *rest;
	int r;

	r = parse_decimal(text, &d, &rest);
	if (r < 0)
		return r;
	if (*rest == ' ') /* "512 MiB", as units_format_bytes writes it */
		if (*++rest == '\0')
			return -EINVAL;
	for (size_t i = 0; i < n_units; i++) {
		if (strcasecmp(rest, units[i].name) != 0)
			continue;
		if (units[i].factor == 1 && d.scale != 1)
			return -EINVAL; /* half a byte */
		return scale_decimal(d, units[i].factor, ret);
	}
	return -EINVAL;
}

int units_parse_bytes(const char *text, uint64_t *ret_bytes, struct error *e)
{
	int r = parse_with_units(text, byte_units, ARRAY_SIZE(byte_units), ret_bytes);

	if (r == -ERANGE)
		return error_set(e, r, "size '%.64s' does not fit in 64 bits", text);
	if (r < 0)
		return error_set(e, r,
			"'%.64s' is not a size: write a number with K, M, G or T, as in 512M",
			text);
	return 0;
}

/* "70%" as basis points. -EINVAL, -ERANGE. */
static int parse_percent(const char *text, uint32_t *ret_bp)
{
	struct decimal d;
	const char *rest;
	uint64_t bp;
	int r;

	r = parse_decimal(text, &d, &rest);
	if (r < 0)
		return r;
	if (strcmp(rest, "%") != 0 || d.scale > 100)
		return -EINVAL;
	r = scale_decimal(d, 100, &bp);
	if (r < 0)
		return r;
	if (bp > 10000)
		return -ERANGE;
	*ret_bp = (uint32_t)bp;
	return 0;
}

int units_parse_percent(const char *text, uint32_t *ret_bp, struct error *e)
{
	int r = parse_percent(text, ret_bp);

	if (r == -ERANGE)
		return error_set(e, r, "'%.64s' is not between 0%% and 100%%", text);
	if (r < 0)
		return error_set(e, r, "'%.64s' is not a percentage, as in 70%%", text);
	return 0;
}

int units_parse_bytes_or_percent(
	const char *text, uint64_t whole_bytes, uint64_t *ret_bytes, struct error *e)
{
	uint32_t bp;
	int r;

	if (!strchr(text, '%'))
		return units_parse_bytes(text, ret_bytes, e);
	r = units_parse_percent(text, &bp, e);
	if (r < 0)
		return r;
	*ret_bytes = (uint64_t)((u128)whole_bytes * bp / 10000);
	return 0;
}

int units_parse_time(const char *text, uint64_t *ret_us, struct error *e)
{
	int r = parse_with_units(text, time_units, ARRAY_SIZE(time_units), ret_us);

	if (r == -ERANGE)
		return error_set(
			e, r, "time '%.64s' does not fit in 64 bits of microseconds", text);
	if (r < 0)
		return error_set(e, r,
			"'%.64s' is not a time: write a number with us, ms, s, min or h, as in "
			"500ms",
			text);
	return 0;
}

int units_parse_u64(const char *text, uint64_t max, uint64_t *ret, struct error *e)
{
	struct decimal d = {0};
	const char *rest;
	int r;

	r = parse_decimal(text, &d, &rest);
	if (r == 0 && (*rest != '\0' || d.scale != 1))
		r = -EINVAL;
	if (r == 0 && d.number > max)
		r = -ERANGE;
	if (r == -ERANGE)
		return error_set(e, r, "'%.64s' is more than %llu", text, (unsigned long long)max);
	if (r < 0)
		return error_set(e, r, "'%.64s' is not a whole number", text);
	*ret = d.number;
	return 0;
}

char *units_format_bytes(uint64_t bytes, char *buffer, size_t size)
{
	static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned i = 0;
	u128 tenths;

	while (i + 1 < ARRAY_SIZE(names) && bytes >> (10 * (i + 1)))
		i++;
	tenths = (((u128)bytes * 10) + ((u128)1 << (10 * i)) / 2) >> (10 * i);
	if (tenths >= 10240 && i + 1 < ARRAY_SIZE(names)) { /* 1023.96 KiB is 1 MiB */
		i++;
		tenths = 10;
	}
	if (tenths % 10)
		snprintf(buffer, size, "%u.%u %s", (unsigned)(tenths / 10), (unsigned)(tenths % 10),
			names[i]);
	else
		snprintf(buffer, size, "%u %s", (unsigned)(tenths / 10), names[i]);
	return buffer;
}
