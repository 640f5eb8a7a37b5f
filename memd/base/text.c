/*
 * UTF-8 by RFC 3629: no overlong forms, no surrogates, at most U+10FFFF. Never depends on a locale.
 */
#include "memd/base/text.h"

#include <stddef.h>
#include <stdint.h>

/* The bytes of the clean character at s, 0 when there is none. s is not at its end. */
static size_t clean_character(const char *s)
{
	const unsigned char *b = (const unsigned char *)s;
	size_t n = b[0] < 0x80 ? 1 : b[0] < 0xc2 ? 0 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;
	uint32_t c;

	if (n <= 1)
		return b[0] < 0x20 || b[0] == 0x7f ? 0 : n;
	c = b[0] & (0x7f >> n);
	for (size_t i = 1; i < n; i++) { /* the NUL is no continuation, so this ends there */
		if ((b[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (b[i] & 0x3f);
	}
	if ((n == 2 && c < 0xa0) || (n == 3 && c < 0x800) || (n == 4 && c < 0x10000))
		return 0; /* C1 controls; overlong */
	if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	return n;
}

bool text_is_clean(const char *text)
{
	while (*text) {
		size_t n = clean_character(text);

		if (n == 0)
			return false;
		text += n;
	}
	return true;
}

void text_clean(char *text)
{
	while (*text) {
		size_t n = clean_character(text);

		if (n == 0)
			*text = '?';
		text += n ? n : 1;
	}
}
