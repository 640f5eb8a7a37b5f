/*
 * Debian's cloud kernel, as the package has it, in memd-vmm: a bzImage with everything that a
 * distribution switches on. It reaches its init, with the devices of the machine found on the way.
 *
 * Slow: minutes where ring 0 is emulated, and many of them on a busy machine, so it runs only when
 * MEMD_SLOW_TESTS is set. The time here only catches a hung guest.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "memd/base/units.h"
#include "tests/guest/guest-check.h"

#define BOOT_MS 540000

static char kernel_path[PATH_MAX];

static void a_stock_kernel_reaches_its_init(void **state)
{
	struct vmm_run_options o = {
		.kernel = kernel_path,
		.initrd = MEMD_INITRAMFS,
		.cmdline = "console=ttyS0 ignore_loglevel -- memory=8",
		.memory_bytes = 256 * MIB,
		.n_vcpus = 1,
	};
	_cleanup_(vmm_run_freep) struct vmm_run *v = NULL;

	assert_int_equal(vmm_run_start(&o, &v), 0);
	if (!vmm_run_wait_text(v, "Run /init as init process", BOOT_MS)) {
		show_console(v);
		fail_msg("it did not");
	}
	assert_true(vmm_run_wait_text(v, "ACPI: RSDP 0x00000000000E0000", 0));
	assert_true(vmm_run_wait_text(v, "Hypervisor detected: KVM", 0));
}

/* The package, or why it cannot be had. */
static int find_kernel(void **state)
{
	FILE *f = popen(MEMD_FETCH_KERNEL, "r");
	bool found = f && fgets(kernel_path, sizeof(kernel_path), f);

	if (f && pclose(f) != 0)
		found = false;
	kernel_path[strcspn(kernel_path, "\n")] = '\0';
	return found ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stock_kernel_reaches_its_init),
	};
	const char *why = vmm_run_unusable();

	if (!why && !getenv("MEMD_SLOW_TESTS"))
		why = "takes minutes: MEMD_SLOW_TESTS=1 runs it";
	if (why) {
		(void)printf("1..0 # SKIP %s\n", why);
		return 0;
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, find_kernel, NULL);
}
