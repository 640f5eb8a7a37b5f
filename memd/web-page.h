/* The files of the page that memd serves, as they are in memd/web/, inside the program. */
#pragma once

#include <stddef.h>

struct web_file {
	const char *url;
	const char *type;
	const char *begin;
	const char *end;
};

extern const struct web_file web_files[];
extern const size_t n_web_files;
