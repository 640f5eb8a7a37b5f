/* memd.conf, drop-ins and guests' files: what is read, what is refused and how it is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "config/config.h"
#include "memd/base/cleanup.h"
#include "memd/base/clock.h"
#include "memd/base/fd.h"

static char dir[] = "/tmp/memd-test-config-XXXXXX";

static int make_dir(void **state)
{
	return mkdtemp(dir) ? 0 : -1;
}

static void path_of(const char *name, char *ret, size_t size)
{
	snprintf(ret, size, "%s/%s", dir, name);
}

static void write_file(const char *name, const char *text)
{
	_cleanup_close_ int fd = -1;
	char path[128];

	path_of(name, path, sizeof(path));
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
}

/* All that a test has left in the directory. */
static int empty_dir(void **state)
{
	static const char *const names[] = {"memd.conf.d/10-a.conf", "memd.conf.d/20-b.conf",
		"memd.conf.d/.hidden.conf", "memd.conf.d/note.txt", "memd.conf", "g.guest"};
	char path[128];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		path_of(names[i], path, sizeof(path));
		unlink(path);
	}
	path_of("memd.conf.d", path, sizeof(path));
	rmdir(path);
	return 0;
}

static int remove_dir(void **state)
{
	return rmdir(dir);
}

static int load_host(struct host_config *ret, struct error *e)
{
	char path[128];

	path_of("memd.conf", path, sizeof(path));
	return host_config_load(path, ret, e);
}

static int load_guest(const char *text, struct guest_config *ret, struct error *e)
{
	char path[128];

	write_file("g.guest", text);
	path_of("g.guest", path, sizeof(path));
	return guest_config_load(path, ret, e);
}

/* The text is refused with the code, and the message has each of the words. */
static void refuses_host(const char *text, int code, const char *word1, const char *word2)
{
	struct host_config c = {.tick_us = 77};
	struct error e = {0};

	write_file("memd.conf", text);
	assert_int_equal(load_host(&c, &e), code);
	assert_int_equal(c.tick_us, 77); /* untouched: the last good one stays */
	assert_null(c.policy);
	if (!strstr(e.text, word1) || !strstr(e.text, word2))
		fail_msg("neither '%s' nor '%s' in: %s", word1, word2, e.text);
}

static void assert_size(struct config_size a, struct config_size b)
{
	assert_int_equal(a.bp, b.bp);
	if (a.bp == CONFIG_SIZE_ABSOLUTE)
		assert_int_equal(a.bytes, b.bytes);
}

static void assert_host_equal(const struct host_config *a, const struct host_config *b)
{
	assert_size(a->budget, b->budget);
	assert_int_equal(a->tick_us, b->tick_us);
	assert_string_equal(a->policy, b->policy);
	assert_true(!a->vmm_path && !b->vmm_path);
	assert_true(!a->pool_path && !b->pool_path);
	assert_true(!a->policy_path && !b->policy_path);
	assert_string_equal(a->policy_dir, b->policy_dir);
	assert_int_equal(a->policy_time_limit_us, b->policy_time_limit_us);
	assert_int_equal(a->keep_guests, b->keep_guests);
	assert_int_equal(a->cgroup, b->cgroup);
	assert_string_equal(a->cgroup_name, b->cgroup_name);
	assert_int_equal(a->share_mode, b->share_mode);
	assert_int_equal(a->share_max_cpu_bp, b->share_max_cpu_bp);
	assert_int_equal(a->share_target_time_us, b->share_target_time_us);
	assert_int_equal(a->paging, b->paging);
	assert_int_equal(a->stall_budget_bp, b->stall_budget_bp);
	assert_int_equal(a->swap_latency_max_us, b->swap_latency_max_us);
	assert_int_equal(a->flash_write_bytes, b->flash_write_bytes);
	assert_int_equal(a->working_set, b->working_set);
	assert_int_equal(a->sample_width_bp, b->sample_width_bp);
	assert_int_equal(a->sample_max_stall_bp, b->sample_max_stall_bp);
	assert_int_equal(a->sample_max_cpu_bp, b->sample_max_cpu_bp);
	assert_int_equal(a->metrics_socket, b->metrics_socket);
	assert_int_equal(a->metrics_http_port, b->metrics_http_port);
	assert_int_equal(a->journal_max_bytes, b->journal_max_bytes);
	assert_int_equal(a->n_policies, b->n_policies);
}

static void has_the_documented_defaults(void **state)
{
	struct host_config c;
	struct guest_config g;

	assert_int_equal(host_config_init(&c), 0);
	assert_int_equal(config_size_resolve(c.budget, 10 * GIB), 8 * GIB);
	assert_int_equal(c.tick_us, US_PER_S);
	assert_string_equal(c.policy, "esx");
	assert_int_equal(c.share_mode, CONFIG_SHARE_SHARE);
	assert_int_equal(c.share_max_cpu_bp, 7000);
	assert_int_equal(c.share_target_time_us, 200 * US_PER_S);
	assert_true(c.paging);
	assert_int_equal(c.stall_budget_bp, 100);
	assert_int_equal(c.swap_latency_max_us, 200);
	assert_int_equal(c.flash_write_bytes, MIB);
	assert_int_equal(c.working_set, CONFIG_WORKING_SET_AUTO);
	assert_int_equal(c.sample_width_bp, 500);
	assert_int_equal(c.sample_max_stall_bp, 10);
	assert_int_equal(c.sample_max_cpu_bp, 50);
	assert_false(c.keep_guests);
	host_config_done(&c);
	assert_int_equal(guest_config_init(&g), 0);
	assert_int_equal(g.n_vcpus, 1);
	assert_int_equal(g.shares, 1000);
	assert_int_equal(g.balloon_max_bp, 6500);
	g.memory_bytes = 256 * MIB;
	assert_int_equal(guest_config_min_bytes(&g), 64 * MIB);
	assert_int_equal(guest_config_max_bytes(&g), 256 * MIB);
	guest_config_done(&g);
}

/* The shipped file with its settings switched on: every '#Key=' loses its '#'. Counts them. */
static unsigned switch_on(char *text)
{
	unsigned n = 0;

	for (char *line = text; line && *line; line = strchr(line, '\n')) {
		if (*line == '\n')
			line++;
		if (line[0] == '#' && line[1] >= 'A' && line[1] <= 'Z' &&
			line[1 + strspn(line + 1,
					 "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")] ==
				'=') {

			memmove(line, line + 1, strlen(line));
			n++;
		}
	}
	return n;
}

static void ships_a_file_that_says_the_defaults(void **state)
{
	_cleanup_free_ char *text = NULL;
	struct host_config shipped, builtin;
	struct error e = {0};

	assert_int_equal(host_config_init(&builtin), 0);
	assert_int_equal(
		fd_read_file_at(AT_FDCWD, MEMD_SOURCE_DIR "/config/memd.conf", 65536, &text, NULL),
		0);
	write_file("memd.conf", text);
	assert_int_equal(load_host(&shipped, &e), 0);
	assert_host_equal(&shipped, &builtin);
	host_config_done(&shipped);

	assert_int_equal(switch_on(text), 26); /* all that there are */
	write_file("memd.conf", text);
	assert_int_equal(load_host(&shipped, &e), 0);
	assert_host_equal(&shipped, &builtin);
	host_config_done(&shipped);
	host_config_done(&builtin);
}

static void reads_every_key_of_memd_conf(void **state)
{
	struct host_config c;
	struct error e = {0};

	write_file("memd.conf",
		"; a comment\n"
		"[Host]\nHostMemoryBudget=1G\nTickInterval = 500ms\nPolicy=my-policy\n"
		"PolicyDir=/opt/policies\nPolicyTimeLimit=20ms\nPolicyPath=/opt/memd-policy\n"
		"VmmPath=/opt/memd-vmm\nPoolPath=/opt/memd-pool\nKeepGuests=yes\nCgroup=off\n"
		"CgroupName=test.1\n"
		"[Share]\nMode=zero-only\nShareScanMaxCpu=12.5%\nShareScanTargetTime=1min\n"
		"[Reclaim]\nPaging=no\nStallBudget=2%\nSwapLatencyMax=1ms\nFlashWriteMax="
		"0\nWorkingSet=idle-bits\nSampleWidth=10%\nSampleMaxStall=1%\n"
		"SampleMaxCpu=2%\n"
		"[Metrics]\nSocket=no\nHttpPort=9177\n[Journal]\nJournalSize=1M\n");
	assert_int_equal(load_host(&c, &e), 0);
	assert_int_equal(c.stall_budget_bp, 200);
	assert_int_equal(c.swap_latency_max_us, 1000);
	assert_int_equal(c.flash_write_bytes, 0);
	assert_int_equal(c.working_set, CONFIG_WORKING_SET_IDLE_BITS);
	assert_int_equal(c.sample_width_bp, 1000);
	assert_int_equal(c.sample_max_stall_bp, 100);
	assert_int_equal(c.sample_max_cpu_bp, 200);
	assert_int_equal(config_size_resolve(c.budget, 5), GIB);
	assert_int_equal(c.tick_us, 500000);
	assert_string_equal(c.policy, "my-policy");
	assert_string_equal(c.vmm_path, "/opt/memd-vmm");
	assert_string_equal(c.pool_path, "/opt/memd-pool");
	assert_string_equal(c.policy_path, "/opt/memd-policy");
	assert_string_equal(c.policy_dir, "/opt/policies");
	assert_int_equal(c.policy_time_limit_us, 20000);
	assert_true(c.keep_guests);
	assert_int_equal(c.cgroup, CONFIG_CGROUP_OFF);
	assert_string_equal(c.cgroup_name, "test.1");
	assert_int_equal(c.share_mode, CONFIG_SHARE_ZERO_ONLY);
	assert_int_equal(c.share_max_cpu_bp, 1250);
	assert_int_equal(c.share_target_time_us, 60 * US_PER_S);
	assert_false(c.paging);
	assert_false(c.metrics_socket);
	assert_int_equal(c.metrics_http_port, 9177);
	assert_int_equal(c.journal_max_bytes, MIB);
	host_config_done(&c);
}

static void names_file_line_and_nearest_key(void **state)
{
	char line[160];

	snprintf(line, sizeof(line), "%s/memd.conf:3: ", dir);
	refuses_host("[Host]\n\nTickIntervall=2s\n", -EINVAL, line, "'TickInterval'");
	refuses_host("[Host]\n\nhostmemorybudget=2G\n", -EINVAL, line, "'HostMemoryBudget'");
	refuses_host("[Host]\n#\nMode=off\n", -EINVAL, line, "Mode= belongs in [Share]");
	refuses_host("[Host]\n\nAKeyThatIsLongerThanAnyThatAnybodyWouldHaveMeantToWrite=1\n",
		-EINVAL, line, "unknown key 'AKey");
	refuses_host("[Hots]\n\nPolicy=x\n", -EINVAL, line, "Policy= belongs in [Host]");
	refuses_host("[Hots]\n\nNonsense=x\n", -EINVAL, line, "unknown section [Hots]");
	refuses_host("\n\nPolicy=x\n", -EINVAL, line, "before the first [Section]");
	refuses_host("[Host]\n\nPolicy\n", -EINVAL, line, "neither [Section], Key=value");
	refuses_host("[Host]\n\n[Share\nMode=off\n", -EINVAL, line, "neither [Section], Key=value");
	refuses_host("[Host]\nPolicy=x\n y\n", -EINVAL, line, "indented");
	refuses_host("[Host]\n\nPolicy=\x1b[2J\n", -EINVAL, line, "control character");
	refuses_host("[Policy no good]\n\nA=b\n", -EINVAL, line, "the name of a policy");
	refuses_host("[Group no/good]\n\nPolicy=esx\n", -EINVAL, line, "'/'");
	refuses_host("[Group db]\n\nPolicy=E s x\n", -EINVAL, line, "the name of a policy");
	refuses_host("[Group db]\n\nPolicy=\n", -EINVAL, line, "the name of a policy");
	refuses_host("[Group db]\nProbe=1%\n", -EINVAL, "memd.conf: ", "[Group db] has no Policy=");
}

static void names_value_and_bounds(void **state)
{
	refuses_host("[Host]\nHostMemoryBudget=16777216T\n", -ERANGE,
		":2: HostMemoryBudget=16777216T: ", "does not fit in 64 bits");
	refuses_host("[Host]\nHostMemoryBudget=63M\n", -ERANGE, "63M", "between 64 MiB");
	refuses_host("[Host]\nHostMemoryBudget=0%\n", -ERANGE, "0%", "leaves nothing");
	refuses_host("[Host]\nHostMemoryBudget=101%\n", -ERANGE, "101%", "between");
	refuses_host("[Host]\nTickInterval=99ms\n", -ERANGE, "99ms", "between 0.1s and 60s");
	refuses_host("[Host]\nTickInterval=60001ms\n", -ERANGE, "60001ms", "between 0.1s and 60s");
	refuses_host("[Host]\nTickInterval=soon\n", -EINVAL, "soon", "no");
	refuses_host("[Host]\nKeepGuests=maybe\n", -EINVAL, "maybe", "neither yes nor no");
	refuses_host("[Host]\nCgroup=v2\n", -EINVAL, "v2", "auto, off");
	refuses_host("[Host]\nCgroupName=a/b\n", -EINVAL, "a/b", "'/'");
	refuses_host("[Host]\nVmmPath=memd-vmm\n", -EINVAL, "memd-vmm", "absolute");
	refuses_host("[Share]\nShareScanMaxCpu=0%\n", -ERANGE, "0%", "between 1% and 100%");
}

static void reads_bounds_themselves(void **state)
{
	static const char *const texts[] = {
		"[Host]\nHostMemoryBudget=64M\n", "[Host]\nTickInterval=100ms\n",
		"[Host]\nTickInterval=60s\n", "[Share]\nShareScanMaxCpu=100%\n",
		"[Share]\nShareScanMaxCpu=1%\n", "", "[Host]",
		"\xef\xbb\xbf[Host]\r\nPolicy=x\r\n", /* as an editor of Windows writes it */
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct host_config c;
		struct error e = {0};

		write_file("memd.conf", texts[i]);
		if (load_host(&c, &e) < 0)
			fail_msg("%s", e.text);
		host_config_done(&c);
	}
}

static void takes_an_empty_value_for_the_default(void **state)
{
	struct host_config c;
	struct guest_config g;
	struct error e = {0};

	write_file("memd.conf", "[Host]\nTickInterval=5s\nTickInterval=\nVmmPath=/x\nVmmPath=\n");
	assert_int_equal(load_host(&c, &e), 0);
	assert_int_equal(c.tick_us, US_PER_S);
	assert_null(c.vmm_path);
	host_config_done(&c);
	assert_int_equal(load_guest("[Guest]\nMemory=1G\nMemory=\n", &g, &e), 0);
	assert_int_equal(g.memory_bytes, 0);
	guest_config_done(&g);
}

static void groups_are_read_with_their_policies(void **state)
{
	const struct config_section *group;
	struct host_config c;
	struct guest_config g;
	struct error e = {0};

	write_file("memd.conf",
		"[Group db]\nPolicy=pressure\nProbe=2%\n[Group lab]\nPolicy=esx\n"
		"[Group db]\nPolicy=static\n");
	assert_int_equal(load_host(&c, &e), 0);
	assert_int_equal(c.n_groups, 2);
	group = host_config_group(&c, "db");
	assert_non_null(group);
	assert_int_equal(group->n_pairs, 3);
	assert_string_equal(config_group_policy(group), "static"); /* the last counts */
	assert_string_equal(config_group_policy(host_config_group(&c, "lab")), "esx");
	assert_null(host_config_group(&c, "web"));
	host_config_done(&c);

	assert_int_equal(load_guest("[Guest]\nPolicyGroup=db\nShareGroup=web\n", &g, &e), 0);
	assert_string_equal(guest_config_policy_group(&g), "db");
	assert_int_equal(guest_config_set(&g, "PolicyGroup", "", &e), 0);
	assert_string_equal(guest_config_policy_group(&g), "web");
	assert_int_equal(guest_config_set(&g, "ShareGroup", "", &e), 0);
	assert_null(guest_config_policy_group(&g));
	assert_int_equal(guest_config_set(&g, "PolicyGroup", "a/b", &e), -EINVAL);
	guest_config_done(&g);
}

static void reads_drop_ins_in_order_of_their_names(void **state)
{
	struct host_config c;
	struct error e = {0};
	char path[128];

	path_of("memd.conf.d", path, sizeof(path));
	assert_int_equal(mkdir(path, 0700), 0);
	write_file("memd.conf", "[Host]\nTickInterval=2s\nPolicy=a\n[Policy p]\nX=1\n");
	write_file("memd.conf.d/20-b.conf", "[Host]\nTickInterval=4s\n[Policy p]\nX=3\n");
	write_file("memd.conf.d/10-a.conf", "[Host]\nTickInterval=3s\nPolicy=b\n[Policy p]\nX=2\n");
	write_file("memd.conf.d/.hidden.conf", "nonsense");
	write_file("memd.conf.d/note.txt", "nonsense");
	assert_int_equal(load_host(&c, &e), 0);
	assert_int_equal(c.tick_us, 4 * US_PER_S);
	assert_string_equal(c.policy, "b");
	assert_non_null(host_config_policy(&c, "p"));
	assert_int_equal(host_config_policy(&c, "p")->n_pairs, 3);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(host_config_policy(&c, "p")->pairs[i].value[0], '1' + (int)i);
	assert_null(host_config_policy(&c, "q"));
	host_config_done(&c);

	write_file("memd.conf.d/20-b.conf", "[Host]\nNonsense=1\n");
	assert_int_equal(load_host(&c, &e), -EINVAL);
	assert_non_null(strstr(e.text, "memd.conf.d/20-b.conf:2: "));
}

static void tells_a_missing_file_unless_it_is_optional(void **state)
{
	struct host_config c;
	struct error e = {0};
	char path[128];

	path_of("memd.conf", path, sizeof(path));
	assert_int_equal(host_config_load(path, &c, &e), -ENOENT);
	assert_non_null(strstr(e.text, path));
	assert_int_equal(host_config_load_optional(path, &c, &e), 0);
	assert_int_equal(c.tick_us, US_PER_S);
	host_config_done(&c);
	path_of("memd.conf.d", path, sizeof(path));
	assert_int_equal(mkdir(path, 0700), 0);
	write_file("memd.conf.d/10-a.conf", "[Host]\nTickInterval=3s\n");
	path_of("memd.conf", path, sizeof(path));
	assert_int_equal(host_config_load_optional(path, &c, &e), 0);
	assert_int_equal(c.tick_us, 3 * US_PER_S);
	host_config_done(&c);
}

#define GUEST "[Guest]\nMemory=512M\nKernel=/boot/vmlinux\n"

static void reads_every_key_of_a_guest(void **state)
{
	struct guest_config g;
	struct error e = {0};

	assert_int_equal(
		load_guest(GUEST "VCpus=4\nInitrd=/boot/initrd\nMemoryMin=128M\nMemoryMax=50%\n"
				 "Shares=500\nShareGroup=web\nBalloonMax=40%\nConsole=/tmp/c\n"
				 "Autostart=yes\nCommandLine=quiet\nDisk=/a.img,ro\nNet=user\n"
				 "Disk=/b.img\nRng=yes\n",
			&g, &e),
		0);
	assert_int_equal(guest_config_check(&g, &e), 0);
	assert_int_equal(g.memory_bytes, 512 * MIB);
	assert_int_equal(g.n_vcpus, 4);
	assert_string_equal(g.kernel, "/boot/vmlinux");
	assert_string_equal(g.initrd, "/boot/initrd");
	assert_string_equal(g.command_line, "quiet");
	assert_int_equal(guest_config_min_bytes(&g), 128 * MIB);
	assert_int_equal(guest_config_max_bytes(&g), 256 * MIB);
	assert_int_equal(g.shares, 500);
	assert_string_equal(g.share_group, "web");
	assert_int_equal(g.balloon_max_bp, 4000);
	assert_string_equal(g.console, "/tmp/c");
	assert_string_equal(g.disks, "/a.img,ro\n/b.img");
	assert_string_equal(g.nets, "user");
	assert_true(g.rng);
	assert_true(g.autostart);
	guest_config_done(&g);
}

static void takes_a_kernel_command_line_as_it_is(void **state)
{
	struct guest_config g;
	struct error e = {0};

	assert_int_equal(
		load_guest(GUEST "CommandLine=console=ttyS0 dyndbg=\"file a +p ; file b\" ; #x\n"
				 "\tclearcpuid=308,295\n"
				 "# a comment in between\n"
				 "  quiet ;last\n",
			&g, &e),
		0);
	assert_string_equal(g.command_line, "console=ttyS0 dyndbg=\"file a +p ; file b\" ; #x "
					    "clearcpuid=308,295 quiet ;last");
	guest_config_done(&g);
	assert_int_equal(load_guest(GUEST "CommandLine=\" a b \"\n", &g, &e), 0);
	assert_string_equal(g.command_line, " a b ");
	guest_config_done(&g);
	assert_int_equal(load_guest(GUEST "CommandLine=\"a\" \"b\"\n", &g, &e), 0);
	assert_string_equal(g.command_line, "\"a\" \"b\"");
	guest_config_done(&g);
}

/* A line of that many bytes without its newline. */
static int load_long_line(size_t n_bytes, struct guest_config *g, struct error *e)
{
	char text[512] = "[Guest]\nCommandLine=";

	memset(text + strlen(text), 'x', n_bytes - strlen("CommandLine="));
	text[strlen("[Guest]\n") + n_bytes] = '\n';
	return load_guest(text, g, e);
}

static void refuses_a_line_longer_than_inih_holds(void **state)
{
	struct guest_config g;
	struct error e = {0};

	assert_int_equal(load_long_line(197, &g, &e), 0);
	guest_config_done(&g);
	assert_int_equal(load_long_line(198, &g, &e), 0);
	assert_int_equal(strlen(g.command_line), 198 - strlen("CommandLine="));
	guest_config_done(&g);
	assert_int_equal(load_long_line(199, &g, &e), -EINVAL);
	assert_non_null(strstr(e.text, "g.guest:2: "));
	assert_non_null(strstr(e.text, "in the next line, indented"));
}

static void bounds_the_command_line(void **state)
{
	_cleanup_free_ char *value = calloc(1, 2049);
	struct guest_config g;
	struct error e = {0};

	assert_int_equal(guest_config_init(&g), 0);
	memset(value, 'x', 2047);
	assert_int_equal(guest_config_set(&g, "CommandLine", value, &e), 0);
	value[2047] = 'x';
	assert_int_equal(guest_config_set(&g, "CommandLine", value, &e), -ERANGE);
	assert_int_equal(strlen(g.command_line), 2047);
	guest_config_done(&g);
}

static void settings_of_the_bus_take_the_same_way(void **state)
{
	struct guest_config g;
	struct error e = {0};

	assert_int_equal(guest_config_init(&g), 0);
	assert_int_equal(guest_config_set(&g, "Memory", "1G", &e), 0);
	assert_int_equal(g.memory_bytes, GIB);
	assert_int_equal(guest_config_set(&g, "Memory", "99999999999T", &e), -ERANGE);
	assert_non_null(strstr(e.text, "Memory=99999999999T"));
	assert_int_equal(g.memory_bytes, GIB);
	e.text[0] = '\0';
	assert_int_equal(guest_config_set(&g, "Memmory", "1G", &e), -EINVAL);
	assert_non_null(strstr(e.text, "'Memory'"));
	assert_int_equal(guest_config_set(&g, "Kernel", "/boot/a\n/b", NULL), -EINVAL);
	assert_int_equal(guest_config_set(&g, "Kernel", "boot/vmlinux", NULL), -EINVAL);
	assert_int_equal(guest_config_set(&g, "Kernel", "/boot/\xff", NULL), -EINVAL);
	assert_null(g.kernel);
	assert_int_equal(guest_config_set(&g, "Kernel", "/boot/\xc3\xa4", NULL), 0);
	assert_int_equal(guest_config_set(&g, "Kernel", "/boot/vmlinux", NULL), 0);
	assert_int_equal(guest_config_set(&g, "Kernel", "x", NULL), -EINVAL);
	assert_string_equal(g.kernel, "/boot/vmlinux");
	assert_int_equal(guest_config_set(&g, "Kernel", "/boot/other", NULL), 0);
	assert_string_equal(g.kernel, "/boot/other");
	guest_config_done(&g);
}

static void bounds_numbers_of_a_guest(void **state)
{
	static const struct {
		const char *key, *value;
		int result;
	} samples[] = {
		{"VCpus", "0", -ERANGE},
		{"VCpus", "1", 0},
		{"VCpus", "1024", 0},
		{"VCpus", "1025", -ERANGE},
		{"VCpus", "-1", -EINVAL},
		{"Shares", "0", -ERANGE},
		{"Shares", "1000000", 0},
		{"Shares", "1000001", -ERANGE},
		{"Memory", "8388607", -ERANGE},
		{"Memory", "8M", 0},
		{"Memory", "4T", 0},
		{"Memory", "4398046511105", -ERANGE},
		{"BalloonMax", "0%", 0},
		{"BalloonMax", "90%", 0},
		{"BalloonMax", "90.01%", -ERANGE},
		{"MemoryMin", "0", 0},
		{"MemoryMin", "100%", 0},
		{"MemoryMin", "101%", -ERANGE},
		{"ShareGroup", "../x", -EINVAL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		struct guest_config g;
		int r;

		assert_int_equal(guest_config_init(&g), 0);
		r = guest_config_set(&g, samples[i].key, samples[i].value, NULL);
		if (r != samples[i].result)
			fail_msg("%s=%s: %d", samples[i].key, samples[i].value, r);
		guest_config_done(&g);
	}
}

static void checks_a_guest_across_its_keys(void **state)
{
	static const struct {
		const char *text;
		int result;
		const char *word;
	} samples[] = {
		{GUEST, 0, ""},
		{"[Guest]\nKernel=/k\n", -EINVAL, "Memory= is missing"},
		{"[Guest]\nMemory=1G\n", -EINVAL, "Kernel= is missing"},
		{"[Guest]\nMemory=1G\nKernel=/k\nSnapshot=/s\n", -EINVAL, "exclude each other"},
		{GUEST "Memory=511M\n", -EINVAL, "multiple of 2 MiB"},
		{GUEST "Memory=536870913\n", -EINVAL, "multiple of 2 MiB"},
		{GUEST "MemoryMax=512M\nMemoryMin=512M\n", 0, ""},
		{GUEST "MemoryMax=536870913\n", -ERANGE, "MemoryMax="},
		{GUEST "MemoryMin=257M\nMemoryMax=256M\n", -ERANGE, "MemoryMin="},
		{GUEST "Console=pty:/run/c\n", 0, ""},
		{GUEST "Console=unix:/run/c\n", 0, ""},
		{GUEST "Console=unix:run/c\n", -EINVAL, "Console="},
		{GUEST "Console=run/c\n", -EINVAL, "Console="},
		{GUEST "MemoryMin=51%\nMemoryMax=50%\n", -ERANGE, "MemoryMin="},
	};

	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		struct guest_config g;
		struct error e = {0};

		assert_int_equal(load_guest(samples[i].text, &g, &e), 0);
		if (guest_config_check(&g, &e) != samples[i].result ||
			!strstr(e.text, samples[i].word))
			fail_msg("%s: %s", samples[i].text, e.text);
		guest_config_done(&g);
	}
}

static void knows_a_name_that_can_be_a_file(void **state)
{
	char name[CONFIG_GUEST_NAME_MAX + 2] = "";
	struct error e = {0};

	assert_true(guest_name_valid("a", NULL));
	assert_true(guest_name_valid("0web_1.example-2", NULL));
	assert_false(guest_name_valid("", NULL));
	assert_false(guest_name_valid(".", NULL));
	assert_false(guest_name_valid("..", NULL));
	assert_false(guest_name_valid("-a", NULL));
	assert_false(guest_name_valid("_a", NULL));
	assert_false(guest_name_valid("a b", NULL));
	assert_false(guest_name_valid("a\n", NULL));
	assert_false(guest_name_valid("\xc3\xa4", NULL));
	assert_false(guest_name_valid("a/b", &e));
	assert_non_null(strstr(e.text, "a/b"));
	memset(name, 'x', CONFIG_GUEST_NAME_MAX);
	assert_true(guest_name_valid(name, NULL));
	name[CONFIG_GUEST_NAME_MAX] = 'x';
	assert_false(guest_name_valid(name, NULL));
}

static void resolves_percentages_to_pages(void **state)
{
	const struct config_size third = {.bp = 3333}, all = {.bp = 10000};
	const struct config_size bytes = {.bytes = 5, .bp = CONFIG_SIZE_ABSOLUTE};

	assert_int_equal(config_size_resolve(third, MIB) % PAGE_BYTES, 0);
	assert_int_equal(config_size_resolve(third, MIB), 85 * PAGE_BYTES);
	assert_int_equal(config_size_resolve(bytes, MIB), 5);
	assert_true(config_size_resolve(all, UINT64_MAX) == UINT64_MAX - PAGE_BYTES + 1);
}

static void a_locked_guest_has_all_its_memory_as_floor_and_limit(void **state)
{
	struct guest_config g;

	assert_int_equal(guest_config_init(&g), 0);
	assert_int_equal(guest_config_set(&g, "Memory", "512M", NULL), 0);
	assert_int_equal(guest_config_set(&g, "Kernel", "/k", NULL), 0);
	assert_int_equal(guest_config_set(&g, "MemoryMax", "50%", NULL), 0);
	assert_int_equal(guest_config_max_bytes(&g), 256 * MIB);
	assert_int_equal(guest_config_set(&g, "MemoryLocked", "yes", NULL), 0);
	assert_int_equal(guest_config_min_bytes(&g), 512 * MIB);
	assert_int_equal(guest_config_max_bytes(&g), 512 * MIB);
	assert_int_equal(guest_config_check(&g, NULL), 0);
	guest_config_done(&g);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_teardown(f, empty_dir)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_locked_guest_has_all_its_memory_as_floor_and_limit),
		TEST(has_the_documented_defaults),
		TEST(ships_a_file_that_says_the_defaults),
		TEST(reads_every_key_of_memd_conf),
		TEST(names_file_line_and_nearest_key),
		TEST(names_value_and_bounds),
		TEST(reads_bounds_themselves),
		TEST(takes_an_empty_value_for_the_default),
		TEST(groups_are_read_with_their_policies),
		TEST(reads_drop_ins_in_order_of_their_names),
		TEST(tells_a_missing_file_unless_it_is_optional),
		TEST(reads_every_key_of_a_guest),
		TEST(takes_a_kernel_command_line_as_it_is),
		TEST(refuses_a_line_longer_than_inih_holds),
		TEST(bounds_the_command_line),
		TEST(settings_of_the_bus_take_the_same_way),
		TEST(bounds_numbers_of_a_guest),
		TEST(checks_a_guest_across_its_keys),
		TEST(knows_a_name_that_can_be_a_file),
		TEST(resolves_percentages_to_pages),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
