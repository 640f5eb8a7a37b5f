/* What the tests with guests in memd-vmm check by, which shows what the guest said when it fails. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "memd/base/units.h"
#include "tests/guest/vmm-run.h"

#define WAIT_MS	   120000 /* only a machine that hangs gets there */
#define PAGES(mib) ((mib)*MIB / PAGE_BYTES)

static inline void show_console(struct vmm_run *v)
{
	_cleanup_free_ char *console = vmm_run_console(v);
	char *save = NULL;

	for (char *line = console ? strtok_r(console, "\r\n", &save) : NULL; line;
		line = strtok_r(NULL, "\r\n", &save))
		(void)printf("# %s\n", line);
	(void)printf(
		"# state %u %s\n", vmm_run_last_event(v)->state, vmm_run_last_event(v)->reason);
}

#define assert_guest(v, condition)                                                                 \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			show_console(v);                                                           \
			fail_msg("%s", #condition);                                                \
		}                                                                                  \
	} while (0)

static inline struct vmm_run *start_guest(const struct vmm_run_options *o)
{
	struct vmm_run *v = NULL;

	assert_int_equal(vmm_run_start(o, &v), 0);
	return v;
}

/* A page is in exactly one state. */
static inline struct vmm_stats get_stats(struct vmm_run *v)
{
	struct vmm_stats s;

	assert_int_equal(vmm_run_get_stats(v, &s), 0);
	assert_int_equal(s.ram_pages, vmm_run_hello(v)->ram_bytes / PAGE_BYTES);
	assert_int_equal(s.private_pages + s.shared_pages + s.template_pages + s.swapped_pages +
				 s.hole_untouched_pages + s.hole_zero_pages + s.hole_balloon_pages +
				 s.hole_reported_pages + s.hole_hinted_pages,
		s.ram_pages);
	return s;
}

/* The freestanding guest powers itself off, with nothing corrupt, and memd-vmm ends well. */
static inline void assert_good_end(struct vmm_run *v)
{
	int status = -1;

	assert_guest(v, vmm_run_wait_exit(v, WAIT_MS, &status) == 0);
	assert_guest(v, WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_guest(v, vmm_run_wait_text(v, "memd-guest: done", 0));
	assert_guest(v, vmm_run_value(v, "corrupt", 1) == 0);
	assert_guest(v, vmm_run_value(v, "returned_dirty", 1) == 0);
}

/* For main: whether the program can run here; says so in place of a plan if not. */
static inline bool guests_can_run(void)
{
	const char *why = vmm_run_unusable();

	if (why)
		(void)printf("1..0 # SKIP %s\n", why);
	return !why;
}
