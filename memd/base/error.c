/*
 * The text of an error on its way up to a person. Never logs, never decides, never allocates:
 * saying why must not fail.
 */
#include "memd/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/text.h"

int error_set(struct error *e, int code, const char *format, ...)
{
	va_list ap;

	if (!e || e->text[0])
		return code;
	va_start(ap, format);
	vsnprintf(e->text, sizeof(e->text), format, ap);
	va_end(ap);
	text_clean(e->text);
	return code;
}

void error_prefix(struct error *e, const char *format, ...)
{
	char before[200];
	size_t size;
	va_list ap;

	if (!e || !e->text[0])
		return;
	va_start(ap, format);
	vsnprintf(before, sizeof(before) - strlen(": "), format, ap);
	va_end(ap);
	strcat(before, ": ");
	size = strlen(before);
	/* Too long: the end is cut; the context and the begin of the reason stay. */
	memmove(e->text + size, e->text, sizeof(e->text) - size);
	memcpy(e->text, before, size);
	e->text[sizeof(e->text) - 1] = '\0';
	text_clean(e->text);
}
