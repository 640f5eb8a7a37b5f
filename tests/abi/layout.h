/* See layout.inc: ended by an entry without name. */
#pragma once

#include <stddef.h>

struct layout {
	const char *name;
	size_t offset;
	size_t bytes;
};

extern const struct layout layout_v1[];
extern const struct layout layout_now[];
