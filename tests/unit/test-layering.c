/*
 * The layering of the tree, read from its #include lines: which room may use which, that includes
 * are spelled from the root, and that each foreign library has one home. The rules are those of
 * design.md; a new dependency is a new line here, with its reason in HACKING.md.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/cleanup.h"
#include "memd/base/fd.h"

/* Rooms by the longest path prefix, and the prefixes of ours that they may include. */
static const struct {
	const char *room;
	const char *may_use[6];
	bool is_program; /* no other room takes it for its own, also where it lies inside one */
} rooms[] = {
	{"memd/base/", {"memd/base/"}, false},
	{"memd/memctl/", {"memd/memctl/", "memd/base/"}, true},
	{"memd/", {"memd/", "policy/", "config/", "balloon-agent/", "memd/base/"}, false},
	{"kvm-glue/", {"kvm-glue/", "dedup/", "memd/base/"}, false},
	{"dedup/", {"dedup/", "memd/base/"}, false},
	{"policy/include/", {NULL}, false},
	{"policy/helper/", {"policy/", "memd/base/"}, true},
	{"policy/", {"policy/", "memd/base/"}, false},
	{"config/", {"config/", "memd/base/"}, false},
	{"balloon-agent/", {"balloon-agent/", "memd/base/"}, false},
};

/* Where a header that is not the C library's may be included; one_file: in a single file only. */
static const struct {
	const char *header;
	const char *home;
	bool one_file;
} homes[] = {
	{"jemalloc/", "memd/base/alloc-stats.c", true}, {"ini.h", "config/ini-file.c", true},
	{"xxhash.h", "dedup/", true}, {"libvirt/", "memd/libvirt-remote.c", true},
	{"libxml/", "memd/libvirt-xml.c", true},
	{"systemd/sd-bus", "memd/bus", false}, {"systemd/sd-bus", "memd/memctl/", false},
	{"systemd/sd-event.h", "memd/", false}, {"systemd/sd-daemon.h", "memd/", false},
	{"json-c/", "memd/memctl/", false}, {"json-c/", "policy/helper/exec", false},
	{"seccomp.h", "kvm-glue/", false}, {"seccomp.h", "policy/helper/sandbox.c", false},
	{"slirp/", "kvm-glue/slirp-main.c", true}, {"liburing.h", "kvm-glue/disk.c", true},
	{"linux/kvm", "kvm-glue/", false}, {"asm/kvm", "kvm-glue/", false},
	{"dlfcn.h", "policy/helper/", false},
	{"memd/policy.h", "policy/examples/", false}, /* as a plugin of somebody else spells it */
	{"microhttpd.h", "memd/metrics-server.c", true},
};

/*
 * Headers of the C library and the compiler; with them goes all of sys/, and of the kernel's linux/
 * and asm/.
 */
static const char *const libc_headers[] = {
	/* clang-format off */
	"assert.h", "byteswap.h", "cpuid.h", "ctype.h", "dirent.h", "elf.h", "endian.h", "err.h",
	"errno.h", "fcntl.h", "fnmatch.h", "ftw.h", "getopt.h", "glob.h", "grp.h", "immintrin.h",
	"inttypes.h", "langinfo.h", "libgen.h", "limits.h", "locale.h", "malloc.h", "math.h",
	"mntent.h", "poll.h", "pthread.h", "pwd.h", "regex.h", "sched.h", "search.h", "semaphore.h",
	"setjmp.h", "signal.h", "spawn.h", "stdalign.h", "stdarg.h", "stdatomic.h", "stdbool.h",
	"stddef.h", "stdint.h", "stdio.h", "stdlib.h", "string.h", "strings.h", "syslog.h",
	"termios.h", "threads.h", "time.h", "ucontext.h", "unistd.h", "utmp.h", "wchar.h",
	"wctype.h", "x86intrin.h",
	/* clang-format on */
};

#define FAULTS_MAX 20

static unsigned n_files, n_includes, n_faults;
static unsigned homes_used[ARRAY_SIZE(homes)]; /* files that include it */

static bool begins_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static void fault(const char *file, unsigned line, const char *header, const char *what)
{
	if (++n_faults <= FAULTS_MAX)
		print_message("# %s:%u: \"%s\" %s\n", file, line, header, what);
}

/* The index of the room that the path lies in, -1 for none. */
static int room_of(const char *path)
{
	int best = -1;

	for (size_t i = 0; i < ARRAY_SIZE(rooms); i++)
		if (begins_with(path, rooms[i].room) &&
			(best < 0 || strlen(rooms[i].room) > strlen(rooms[best].room)))
			best = (int)i;
	return best;
}

static bool exists(const char *path)
{
	char full[4096];

	snprintf(full, sizeof(full), "%s/%s", MEMD_SOURCE_DIR, path);
	return access(full, R_OK) == 0;
}

/* Why room may not include our header, NULL when it may. */
static const char *judge_own(int room, const char *header)
{
	/* The public header is spelled as a plugin spells it. */
	const char *path =
		strcmp(header, "memd/policy.h") == 0 ? "policy/include/memd/policy.h" : header;
	int target = room_of(path);

	if (target < 0 || !exists(path))
		return "is not spelled from the root of the tree";
	for (size_t i = 0; i < ARRAY_SIZE(rooms[room].may_use) && rooms[room].may_use[i]; i++)
		if (begins_with(rooms[target].room, rooms[room].may_use[i])) {
			if (rooms[target].is_program && target != room)
				continue;
			return NULL;
		}
	return "is of a room that this one may not use";
}

static bool is_libc(const char *header)
{
	if (begins_with(header, "sys/") || begins_with(header, "linux/") ||
		begins_with(header, "asm/") || begins_with(header, "netinet/") ||
		begins_with(header, "arpa/") || begins_with(header, "net/"))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(libc_headers); i++)
		if (strcmp(header, libc_headers[i]) == 0)
			return true;
	return false;
}

/*
 * Why the file may not include the foreign header, NULL when it may. Sets *used for the homes it
 * has.
 */
static const char *judge_foreign(const char *file, const char *header, bool *used)
{
	bool has_home = false;

	for (size_t i = 0; i < ARRAY_SIZE(homes); i++) {
		if (!begins_with(header, homes[i].header))
			continue;
		has_home = true;
		if (begins_with(file, homes[i].home)) {
			used[i] = true;
			return NULL;
		}
	}
	if (has_home)
		return "has its home elsewhere";
	return is_libc(header) ? NULL : "is of a library that has no home";
}

static void read_file(const char *path, const char *full)
{
	_cleanup_fclose_ FILE *f = fopen(full, "re");
	_cleanup_free_ char *line = NULL;
	bool used[ARRAY_SIZE(homes)] = {false};
	size_t room_bytes = 0;
	int room = room_of(path);

	assert_non_null(f);
	n_files++;
	for (unsigned n = 1; getline(&line, &room_bytes, f) >= 0; n++) {
		char header[256], quote;
		const char *why;

		if (sscanf(line, " # include %c%255[^\">]", &quote, header) != 2)
			continue;
		n_includes++;
		if (quote == '"')
			why = judge_own(room, header);
		else
			why = judge_foreign(path, header, used);
		if (why)
			fault(path, n, header, why);
	}
	for (size_t i = 0; i < ARRAY_SIZE(homes); i++)
		homes_used[i] += used[i];
}

static int visit(const char *full, const struct stat *st, int type, struct FTW *ftw)
{
	const char *path = full + strlen(MEMD_SOURCE_DIR) + 1;
	size_t n = strlen(path);

	(void)st;
	(void)ftw;
	if (type == FTW_F && n > 2 &&
		(strcmp(path + n - 2, ".c") == 0 || strcmp(path + n - 2, ".h") == 0))
		read_file(path, full);
	return 0;
}

static void rooms_use_only_what_lies_below_them(void **state)
{
	static const char *const roots[] = {
		"memd", "kvm-glue", "dedup", "policy", "config", "balloon-agent"};

	for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
		char full[4096];

		snprintf(full, sizeof(full), "%s/%s", MEMD_SOURCE_DIR, roots[i]);
		assert_int_equal(nftw(full, visit, 16, FTW_PHYS), 0);
	}
	print_message("# %u files, %u includes\n", n_files, n_includes);
	assert_true(n_files > 20 && n_includes > 100);
	assert_int_equal(n_faults, 0);
}

static void each_foreign_library_has_one_home(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(homes); i++) {
		if (homes[i].one_file && homes_used[i] > 1)
			fail_msg("%s is included by %u files", homes[i].header, homes_used[i]);
	}
}

static void judges_made_up_includes_rightly(void **state)
{
	bool used[ARRAY_SIZE(homes)];

	assert_null(judge_own(room_of("memd/x.c"), "policy/policy-host.h"));
	assert_null(judge_own(room_of("memd/x.c"), "memd/policy.h"));
	assert_null(judge_own(room_of("kvm-glue/x.c"), "dedup/guest-ram.h"));
	assert_null(judge_own(room_of("policy/x.c"), "memd/base/units.h"));
	assert_non_null(judge_own(room_of("memd/x.c"), "dedup/guest-ram.h"));
	assert_non_null(judge_own(room_of("memd/x.c"), "memd/memctl/memctl.h"));
	assert_null(judge_own(room_of("policy/helper/x.c"), "policy/policy-host.h"));
	assert_null(judge_own(room_of("policy/helper/x.c"), "policy/helper/helper.h"));
	assert_non_null(judge_own(room_of("policy/x.c"), "policy/helper/helper.h"));
	assert_non_null(judge_own(room_of("memd/x.c"), "policy/helper/helper.h"));
	assert_non_null(judge_own(room_of("memd/base/x.c"), "config/config.h"));
	assert_non_null(judge_own(room_of("dedup/x.c"), "kvm-glue/machine.h"));
	assert_non_null(judge_own(room_of("policy/x.c"), "config/config.h"));
	assert_non_null(judge_own(room_of("policy/include/memd/x.h"), "memd/base/units.h"));
	assert_non_null(judge_own(room_of("memd/base/x.c"), "units.h"));

	assert_null(judge_foreign("kvm-glue/vm.c", "linux/kvm.h", used));
	assert_null(judge_foreign("dedup/x.c", "linux/userfaultfd.h", used));
	assert_non_null(judge_foreign("dedup/x.c", "linux/kvm.h", used));
	assert_non_null(judge_foreign("memd/ledger.c", "systemd/sd-bus.h", used));
	assert_null(judge_foreign("memd/memctl/x.c", "systemd/sd-bus.h", used));
	assert_non_null(judge_foreign("memd/x.c", "openssl/sha.h", used));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(judges_made_up_includes_rightly),
		cmocka_unit_test(rooms_use_only_what_lies_below_them),
		cmocka_unit_test(each_foreign_library_has_one_home),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
