/* See cmdline.h. */
#include "tests/guest/memd-guest/cmdline.h"

#include <stddef.h>

static char line[1024];

void cmdline_init(const char *text)
{
	for (size_t i = 0; text && text[i] && i < sizeof(line) - 1; i++)
		line[i] = text[i];
}

/* The text after "key=", or NULL. */
static const char *find(const char *key)
{
	const char *p = line;

	while (*p) {
		const char *k = key;

		while (*p == ' ')
			p++;
		while (*k && *p == *k) {
			p++;
			k++;
		}
		if (!*k && *p == '=')
			return p + 1;
		while (*p && *p != ' ')
			p++;
	}
	return NULL;
}

uint64_t cmdline_number(const char *key, uint64_t fallback)
{
	const char *p = find(key);
	uint64_t value = 0;

	if (!p || *p < '0' || *p > '9')
		return fallback;
	while (*p >= '0' && *p <= '9')
		value = value * 10 + (uint64_t)(*p++ - '0');
	return *p && *p != ' ' ? fallback : value;
}

bool cmdline_is(const char *key, const char *value)
{
	const char *p = find(key);

	if (!p)
		return false;
	while (*value && *p == *value) {
		p++;
		value++;
	}
	return !*value && (!*p || *p == ' ');
}
