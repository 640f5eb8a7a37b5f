/* memctl import: what it prints is read by memd's own parser, and nothing is dropped in silence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/config.h"
#include "memd/memctl/import.h"

static char *convert(enum import_kind kind, const char *text)
{
	char *copy = strdup(text), *out = NULL;
	size_t size;
	FILE *f = open_memstream(&out, &size);

	assert_non_null(copy);
	assert_non_null(f);
	import_convert(kind, copy, f);
	fclose(f);
	free(copy);
	return out;
}

static void write_temporary(const char *text, char path[32])
{
	int fd;

	strcpy(path, "/tmp/memd-import.XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static struct host_config read_host(const char *text)
{
	struct host_config c;
	struct error e = {0};
	char path[32];

	write_temporary(text, path);
	if (host_config_load(path, &c, &e) < 0)
		fail_msg("%s\n%s", e.text, text);
	unlink(path);
	return c;
}

static const char mom_conf[] = "# MOM\n[main]\nmain-loop-interval: 15\n"
			       "libvirt-hypervisor-uri: qemu:///system\ncontrollers: KSM, Balloon\n"
			       "policy-dir: /etc/vdsm/mom.d\nrpc-port: -1\n[logging]\nlog: stdio\n"
			       "some-new-key: 7\n";

static void mom_becomes_tick_uri_and_all_guests(void **state)
{
	char *text = convert(IMPORT_MOM, mom_conf);
	struct host_config c = read_host(text);

	assert_int_equal(c.tick_us, 15000000);
	assert_string_equal(c.libvirt_uris, "qemu:///system");
	assert_int_equal(c.manage_libvirt, CONFIG_LIBVIRT_ALL);
	host_config_done(&c);
	free(text);
}

static void what_has_no_equal_is_said(void **state)
{
	char *text = convert(IMPORT_MOM, mom_conf);

	assert_non_null(strstr(text, "# policy-dir: /etc/vdsm/mom.d; memd's policies"));
	assert_non_null(strstr(text, "# some-new-key: 7; nothing in memd"));
	free(text);
}

static void ksmtuned_becomes_a_budget(void **state)
{
	char *text = convert(IMPORT_KSMTUNED, "KSM_THRES_COEF=20\n# c\nKSM_SLEEP_MSEC=100\n");
	struct host_config c = read_host(text);

	assert_int_equal(c.budget.bp, 8000);
	host_config_done(&c);
	free(text);
}

static void value_that_memd_has_not_is_a_comment(void **state)
{
	static const char *const bad[] = {"KSM_THRES_COEF=95\n", "KSM_THRES_COEF=\n",
		"KSM_THRES_COEF=-5\n", "KSM_THRES_COEF=20x\n",
		"KSM_THRES_COEF=99999999999999999999\n"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char *text = convert(IMPORT_KSMTUNED, bad[i]);
		struct host_config c = read_host(text);

		assert_non_null(strstr(text, "# (memd has no value for that)"));
		host_config_done(&c);
		free(text);
	}
}

static void proxmox_guest_has_floor_and_shares_and_no_snapshots(void **state)
{
	char *text = convert(IMPORT_PROXMOX, "name: web\nmemory: 4096\nballoon: 1024\nshares: "
					     "2000\ncores: 2\nhostpci0: 01:00.0\n"
					     "[before]\nmemory: 512\n");
	struct guest_config c;
	struct error e = {0};
	char path[32];

	write_temporary(text, path);
	if (guest_config_load(path, &c, &e) < 0)
		fail_msg("%s\n%s", e.text, text);
	unlink(path);
	assert_int_equal(c.memory_bytes, 4096 * MIB);
	assert_int_equal(guest_config_min_bytes(&c), 1024 * MIB);
	assert_int_equal(c.shares, 2000);
	assert_int_equal(c.n_vcpus, 2);
	assert_non_null(strstr(text, "pins all memory"));
	guest_config_done(&c);
	free(text);
}

static void names_are_known(void **state)
{
	assert_int_equal(import_kind_of("mom"), IMPORT_MOM);
	assert_int_equal(import_kind_of("proxmox"), IMPORT_PROXMOX);
	assert_int_equal(import_kind_of("vmware"), IMPORT_KINDS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mom_becomes_tick_uri_and_all_guests),
		cmocka_unit_test(what_has_no_equal_is_said),
		cmocka_unit_test(ksmtuned_becomes_a_budget),
		cmocka_unit_test(value_that_memd_has_not_is_a_comment),
		cmocka_unit_test(proxmox_guest_has_floor_and_shares_and_no_snapshots),
		cmocka_unit_test(names_are_known),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
