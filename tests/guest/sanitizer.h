/* Tests in a build with a sanitizer: what is left out there, and what it is to leave alone. */
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "memd/base/sanitizer.h"

#define NO_PRELOAD "the runtime does not let another library come first"

/* Says so as a TAP comment. (cmocka's skip() prints "not ok", which prove counts as a failure.) */
static inline bool left_out_with_a_sanitizer(const char *why)
{
	if (HAS_SANITIZER)
		(void)printf("# left out: %s\n", why);
	return HAS_SANITIZER;
}

/*
 * Processes that are started from now on may die of SIGSEGV and SIGBUS as without a sanitizer, which
 * else reports it and makes an exit status of it: for those that the test lets die.
 */
static inline void sanitizers_let_die(void)
{
	static const char *const names[] = {"ASAN_OPTIONS", "TSAN_OPTIONS"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *before = getenv(names[i]);
		char options[1024];

		(void)snprintf(options, sizeof(options), "%s:handle_segv=0:handle_sigbus=0",
			before ? before : "");
		setenv(names[i], options, 1);
	}
}
