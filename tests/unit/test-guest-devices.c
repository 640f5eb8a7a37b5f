/* The devices of a configuration as options of memd-vmm and as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "memd/guest-devices.h"

static struct guest_config config;

static int setup(void **state)
{
	return guest_config_init(&config);
}

static int teardown(void **state)
{
	guest_config_done(&config);
	return 0;
}

static void set(const char *key, const char *value)
{
	struct error e = {0};

	assert_int_equal(guest_config_set(&config, key, value, &e), 0);
}

static void guest_without_devices_has_no_options(void **state)
{
	_cleanup_free_ char *text = NULL;
	struct guest_devices d;

	assert_int_equal(guest_devices_init(&d, &config, NULL), 0);
	assert_int_equal(d.n, 0);
	guest_devices_done(&d);
	assert_int_equal(guest_devices_text(&config, &text, NULL), 0);
	assert_string_equal(text, "");
}

static void each_device_is_an_option_in_order(void **state)
{
	_cleanup_free_ char *text = NULL;
	struct guest_devices d;

	set("Vsock", "3,/run/web.vsock");
	set("Rng", "yes");
	set("Disk", "/a.img,ro");
	set("Net", "user");
	set("Disk", "/b.img");
	assert_int_equal(guest_devices_init(&d, &config, NULL), 0);
	assert_int_equal(d.n, 5);
	assert_string_equal(d.list[0].option, "--disk");
	assert_string_equal(d.list[0].value, "/a.img,ro");
	assert_string_equal(d.list[1].option, "--disk");
	assert_string_equal(d.list[1].value, "/b.img");
	assert_string_equal(d.list[2].option, "--net");
	assert_string_equal(d.list[2].value, "user");
	assert_string_equal(d.list[3].option, "--rng");
	assert_null(d.list[3].value);
	assert_string_equal(d.list[4].option, "--vsock");
	assert_string_equal(d.list[4].value, "3,/run/web.vsock");
	guest_devices_done(&d);
	assert_int_equal(guest_devices_text(&config, &text, NULL), 0);
	assert_string_equal(text, "Disk=/a.img,ro\nDisk=/b.img\nNet=user\nRng=yes\n"
				  "Vsock=3,/run/web.vsock\n");
}

static void empty_value_forgets_what_was_before(void **state)
{
	struct guest_devices d;

	set("Disk", "/a.img");
	set("Disk", "");
	set("Disk", "/b.img");
	assert_int_equal(guest_devices_init(&d, &config, NULL), 0);
	assert_int_equal(d.n, 1);
	assert_string_equal(d.list[0].value, "/b.img");
	guest_devices_done(&d);
}

static void refuses_more_devices_than_there_are_slots(void **state)
{
	struct guest_devices d;
	char disk[16];

	for (unsigned i = 0; i < GUEST_DEVICES_MAX; i++) {
		snprintf(disk, sizeof(disk), "/%u", i);
		set("Disk", disk);
	}
	assert_int_equal(guest_devices_init(&d, &config, NULL), 0);
	assert_int_equal(d.n, GUEST_DEVICES_MAX);
	guest_devices_done(&d);
	set("Rng", "yes");
	assert_int_equal(guest_devices_init(&d, &config, NULL), -E2BIG);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(guest_without_devices_has_no_options),
		T(each_device_is_an_option_in_order),
		T(empty_value_forgets_what_was_before),
		T(refuses_more_devices_than_there_are_slots),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("guest-devices", tests, NULL, NULL);
}
