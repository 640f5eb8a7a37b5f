/* What the agent reads of a guest's /proc, what it makes of it, and how it makes room: over prepared files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "balloon-agent/condition.h"
#include "balloon-agent/figures.h"
#include "balloon-agent/room.h"
#include "memd/base/cleanup.h"
#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/units.h"

#define S US_PER_S

static const char meminfo[] =
	"MemTotal:        1024000 kB\nMemFree:          100000 kB\nMemAvailable:     400000 kB\n"
	"Buffers:            1000 kB\nCached:           300000 kB\nSwapCached:           0 kB\n"
	"Active:           200000 kB\nInactive:         150000 kB\nActive(anon):      9 kB\n"
	"Unevictable:        4000 kB\nSwapTotal:         10000 kB\nSwapFree:           8000 kB\n"
	"Dirty:              5000 kB\nShmem:             51000 kB\nKReclaimable:      20000 kB\n"
	"AnonHugePages:      4096 kB\nShmemHugePages:     2048 kB\nFileHugePages:         0 kB\n"
	"Hugetlb:            2048 kB\n";
static const char vmstat[] =
	"nr_free_pages 1\npgfault 1000\npgmajfault 30\nworkingset_refault_anon 5\n"
	"workingset_refault_file 6\nworkingset_activate_anon 1\nworkingset_activate_file 2\n"
	"pswpin 7\npswpout 8\noom_kill 2\noom_kill_later 99\nallocstall_normal 3\n"
	"allocstall_movable 4\n";
static const char pressure[] = "some avg10=12.34 avg60=1.00 avg300=0.50 total=123456\n"
			       "full avg10=0.05 avg60=0.00 avg300=0.00 total=789\n";
static const char zoneinfo[] =
	"Node 0, zone      DMA\n  pages free     3840\n        boost    0\n        min      41\n"
	"        low      51\n        high     61\n        spanned  4095\n"
	"              high:     0\n              high_min: 25\n"
	"Node 0, zone   Normal\n        min      100\n        low      200\n        high     300\n";

struct guest {
	char path[64];
	int fd;
};

static void put(const struct guest *g, const char *path, const char *text)
{
	_cleanup_close_ int fd = -1;
	char *copy = strdup(path), *slash = strrchr(copy, '/');
	char full[256];

	*slash = '\0';
	snprintf(full, sizeof(full), "%s/%s", g->path, copy);
	assert_int_equal(fd_mkdir_parents(full, 0755), 0);
	free(copy);
	fd = openat(g->fd, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
}

static void guest_init(struct guest *g)
{
	snprintf(g->path, sizeof(g->path), "/tmp/memd-agent-XXXXXX");
	assert_non_null(mkdtemp(g->path));
	g->fd = open(g->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(g->fd >= 0);
	put(g, "proc/meminfo", meminfo);
	put(g, "proc/vmstat", vmstat);
	put(g, "proc/pressure/memory", pressure);
	put(g, "proc/zoneinfo", zoneinfo);
}

static void guest_done(struct guest *g)
{
	char command[128];

	cleanup_closep(&g->fd);
	snprintf(command, sizeof(command), "rm -rf '%s'", g->path);
	assert_int_equal(system(command), 0);
}

static void read_figures(const struct guest *g, struct agent_message *ret)
{
	struct figures f;

	agent_message_init(ret, AGENT_REPORT, 0);
	assert_int_equal(figures_init(&f, g->fd), 0);
	assert_int_equal(figures_read(&f, ret), 0);
	figures_done(&f);
}

static void figures_are_those_of_the_kernel(void **state)
{
	_cleanup_(guest_done) struct guest g = {0};
	struct agent_message m;

	guest_init(&g);
	read_figures(&g, &m);
	assert_int_equal(m.value[AGENT_TOTAL], 1024000 * KIB);
	assert_int_equal(m.value[AGENT_AVAILABLE], 400000 * KIB);
	assert_int_equal(m.value[AGENT_CACHE], 250000 * KIB);
	assert_int_equal(m.value[AGENT_ACTIVE], 200000 * KIB);
	assert_int_equal(m.value[AGENT_HUGE], 6144 * KIB);
	assert_int_equal(m.value[AGENT_REFAULTS_ANON], 5);
	assert_int_equal(m.value[AGENT_REFAULTS_FILE], 6);
	assert_int_equal(m.value[AGENT_ACTIVATIONS], 3);
	assert_int_equal(m.value[AGENT_OOM_KILLS], 2);
	assert_int_equal(m.value[AGENT_ALLOCATION_STALLS], 7);
	assert_int_equal(m.value[AGENT_PRESSURE_SOME_BP], 1234);
	assert_int_equal(m.value[AGENT_PRESSURE_FULL_BP], 5);
	assert_int_equal(m.value[AGENT_PRESSURE_SOME_US], 123456);
	assert_int_equal(m.value[AGENT_WATERMARK_LOW], 251 * PAGE_BYTES);
	assert_int_equal(m.value[AGENT_WATERMARK_HIGH], 361 * PAGE_BYTES);
}

static void what_a_kernel_lacks_is_left_out(void **state)
{
	_cleanup_(guest_done) struct guest g = {0};
	struct agent_message m;

	guest_init(&g);
	assert_int_equal(unlinkat(g.fd, "proc/pressure/memory", 0), 0);
	assert_int_equal(unlinkat(g.fd, "proc/zoneinfo", 0), 0);
	put(&g, "proc/vmstat", "workingset_refault 9\n");
	read_figures(&g, &m);
	assert_false(agent_has(&m, AGENT_PRESSURE_SOME_BP));
	assert_false(agent_has(&m, AGENT_WATERMARK_LOW));
	assert_false(agent_has(&m, AGENT_REFAULTS_ANON));
	assert_int_equal(m.value[AGENT_REFAULTS_FILE], 9);
}

static void nonsense_in_the_files_is_left_out(void **state)
{
	_cleanup_(guest_done) struct guest g = {0};
	struct agent_message m;

	guest_init(&g);
	put(&g, "proc/meminfo",
		"MemTotal: many kB\nMemFree: 99999999999999999999999 kB\nMemAvailable:");
	put(&g, "proc/pressure/memory", "some avg10=900.00 total=x\nfull avg10=\n");
	read_figures(&g, &m);
	assert_false(agent_has(&m, AGENT_TOTAL));
	assert_false(agent_has(&m, AGENT_FREE));
	assert_false(agent_has(&m, AGENT_AVAILABLE));
	assert_false(agent_has(&m, AGENT_PRESSURE_SOME_BP));
	assert_false(agent_has(&m, AGENT_PRESSURE_SOME_US));
}

static void figures_of_this_very_machine_are_read(void **state)
{
	struct guest here = {.fd = open("/", O_PATH | O_CLOEXEC)};
	struct agent_message m;

	read_figures(&here, &m);
	close(here.fd);
	assert_in_range(m.value[AGENT_TOTAL], 64 * MIB, UINT64_MAX);
	assert_in_range(m.value[AGENT_AVAILABLE], 1, m.value[AGENT_TOTAL]);
	assert_in_range(m.value[AGENT_WATERMARK_MIN], 1, m.value[AGENT_WATERMARK_HIGH] - 1);
	assert_in_range(m.value[AGENT_FAULTS], 1, UINT64_MAX);
	assert_in_range(m.value[AGENT_OWN_BYTES], PAGE_BYTES, m.value[AGENT_TOTAL]);
}

/* A guest of 1 GiB; what it keeps available is 64 MiB. */
static struct agent_message with_available(uint64_t available)
{
	struct agent_message m;

	agent_message_init(&m, AGENT_REPORT, 0);
	agent_set(&m, AGENT_TOTAL, GIB);
	agent_set(&m, AGENT_AVAILABLE, available);
	agent_set(&m, AGENT_FREE, available);
	agent_set(&m, AGENT_OOM_KILLS, 3);
	agent_set(&m, AGENT_PRESSURE_SOME_US, 0);
	agent_set(&m, AGENT_PRESSURE_FULL_US, 0);
	return m;
}

static enum condition_word word_of(struct condition *c, const struct agent_message *m, uint64_t us)
{
	struct condition_said said;

	condition_look(c, m, us, &said);
	assert_int_equal(said.word == CONDITION_FINE, said.reason[0] == '\0');
	return said.word;
}

static void a_kill_is_distress_once(void **state)
{
	struct condition c = {0};
	struct agent_message m = with_available(500 * MIB);

	assert_int_equal(word_of(&c, &m, 10 * S), CONDITION_FINE); /* those were before */
	agent_set(&m, AGENT_OOM_KILLS, 4);
	assert_int_equal(word_of(&c, &m, 11 * S), CONDITION_DISTRESS);
	assert_int_equal(word_of(&c, &m, 12 * S), CONDITION_FINE);
	agent_set(&m, AGENT_OOM_KILLS, 5);
	assert_int_equal(word_of(&c, &m, 13 * S), CONDITION_DISTRESS);
}

static void nearly_nothing_available_is_distress(void **state)
{
	struct condition c = {0};
	struct agent_message m = with_available(16 * MIB);

	assert_int_equal(word_of(&c, &m, 10 * S), CONDITION_ASK); /* without swap */
	m = with_available(16 * MIB - 1);
	assert_int_equal(word_of(&c, &m, 11 * S), CONDITION_DISTRESS);
	assert_int_equal(word_of(&c, &m, 15 * S), CONDITION_FINE); /* said already */
	assert_int_equal(word_of(&c, &m, 16 * S), CONDITION_DISTRESS); /* and still so */
}

static void tasks_that_all_stand_still_are_distress_only_with_little_available(void **state)
{
	struct condition plenty = {0}, little = {0};
	struct agent_message a = with_available(500 * MIB), b = with_available(60 * MIB);

	assert_int_equal(word_of(&plenty, &a, 10 * S), CONDITION_FINE);
	assert_int_equal(word_of(&little, &b, 10 * S), CONDITION_FINE);
	agent_set(&a, AGENT_PRESSURE_FULL_US, S / 5);
	agent_set(&b, AGENT_PRESSURE_FULL_US, S / 5 - 1000);
	assert_int_equal(word_of(&plenty, &a, 11 * S), CONDITION_FINE);
	assert_int_equal(word_of(&little, &b, 11 * S), CONDITION_FINE);
	agent_set(&b, AGENT_PRESSURE_FULL_US, 2 * S / 5);
	assert_int_equal(word_of(&little, &b, 12 * S), CONDITION_DISTRESS);
}

static void it_asks_for_what_it_lacks_when_swap_runs_out_or_tasks_wait(void **state)
{
	struct condition c = {0};
	struct agent_message m = with_available(31 * MIB);
	struct condition_said said;

	agent_set(&m, AGENT_SWAP_TOTAL, GIB);
	agent_set(&m, AGENT_SWAP_FREE, GIB);
	assert_int_equal(word_of(&c, &m, 10 * S), CONDITION_FINE);
	agent_set(&m, AGENT_SWAP_FREE, GIB / 8);
	condition_look(&c, &m, 11 * S, &said);
	assert_int_equal(said.word, CONDITION_ASK);
	assert_int_equal(said.bytes, 33 * MIB);
	agent_set(&m, AGENT_SWAP_FREE, GIB);
	agent_set(&m, AGENT_PRESSURE_SOME_US, 9 * S / 2);
	assert_int_equal(word_of(&c, &m, 20 * S), CONDITION_ASK);
	m = with_available(32 * MIB);
	assert_int_equal(word_of(&c, &m, 30 * S), CONDITION_FINE);
}

static void it_gives_what_is_above_what_it_keeps(void **state)
{
	struct condition c = {0};
	struct agent_message m = with_available(500 * MIB);
	char reason[AGENT_TEXT_MAX + 1];

	assert_int_equal(condition_spare_bytes(&m), 436 * MIB);
	assert_false(condition_refuses(&c, &m, GIB, 10 * S, reason));
	m = with_available(65 * MIB - 1);
	assert_true(condition_refuses(&c, &m, GIB, 10 * S, reason));
	assert_non_null(strstr(reason, "64 MiB are kept"));
	m = with_available(65 * MIB);
	assert_false(condition_refuses(&c, &m, GIB, 10 * S, reason));
	m.present &= ~(UINT64_C(1) << AGENT_AVAILABLE); /* nobody knows: nothing */
	assert_int_equal(condition_spare_bytes(&m), 0);
}

static void after_trouble_it_gives_nothing_for_a_while(void **state)
{
	struct condition c = {0};
	struct agent_message m = with_available(500 * MIB);
	char reason[AGENT_TEXT_MAX + 1];

	(void)word_of(&c, &m, 10 * S);
	agent_set(&m, AGENT_OOM_KILLS, 4);
	(void)word_of(&c, &m, 11 * S);
	assert_true(condition_refuses(&c, &m, 8 * MIB, 11 * S + CONDITION_SETTLE_US - 1, reason));
	assert_non_null(strstr(reason, "was short"));
	assert_false(condition_refuses(&c, &m, 8 * MIB, 11 * S + CONDITION_SETTLE_US, reason));
}

static void the_floor_is_what_cannot_leave_and_what_it_keeps(void **state)
{
	struct agent_message m = with_available(500 * MIB);

	assert_int_equal(condition_floor_bytes(&m, 0), 64 * MIB);
	agent_set(&m, AGENT_UNEVICTABLE, 10 * MIB);
	agent_set(&m, AGENT_HUGETLB, 100 * MIB);
	assert_int_equal(condition_floor_bytes(&m, 0), 174 * MIB);
	assert_int_equal(condition_floor_bytes(&m, 300 * MIB), 300 * MIB);
}

static void expect_file(const struct guest *g, const char *path, const char *text)
{
	_cleanup_free_ char *is = NULL;
	char full[256];

	snprintf(full, sizeof(full), "%s/%s", g->path, path);
	assert_int_equal(fd_read_file_at(AT_FDCWD, full, 100, &is, NULL), 0);
	assert_string_equal(is, text);
}

static void room_is_made_by_the_kernels_reclaim_first(void **state)
{
	_cleanup_(guest_done) struct guest g = {0};
	struct agent_message m = with_available(300 * MIB);
	struct room r;

	guest_init(&g);
	put(&g, "sys/fs/cgroup/memory.reclaim", "");
	put(&g, "proc/sys/vm/drop_caches", "");
	put(&g, "proc/sys/vm/compact_memory", "");
	room_init(&r, g.fd);
	agent_set(&m, AGENT_FREE, 80 * MIB);
	room_begin(&r, 100 * MIB, 20 * S);
	assert_false(room_step(&r, &m, 10 * S));
	expect_file(&g, "sys/fs/cgroup/memory.reclaim", "16777216");
	agent_set(&m, AGENT_FREE, 97 * MIB);
	assert_false(room_step(&r, &m, 10 * S));
	assert_int_equal(r.reclaimed_bytes, 19 * MIB);
	agent_set(&m, AGENT_FREE, 100 * MIB);
	assert_true(room_step(&r, &m, 10 * S));
	assert_int_equal(r.reclaimed_bytes, 19 * MIB);
	assert_int_equal(r.drops, 0);
	expect_file(&g, "proc/sys/vm/compact_memory", "1");
	room_begin(&r, 100 * MIB, 20 * S); /* compacted a moment ago */
	assert_true(room_step(&r, &m, 11 * S));
	assert_int_equal(r.compactions, 1);
	room_done(&r);
}

static void room_ends_at_its_deadline(void **state)
{
	_cleanup_(guest_done) struct guest g = {0};
	struct agent_message m = with_available(10 * MIB);
	struct room r;

	guest_init(&g);
	put(&g, "sys/fs/cgroup/memory.reclaim", "");
	room_init(&r, g.fd);
	room_begin(&r, 100 * MIB, 20 * S);
	assert_false(room_step(&r, &m, 20 * S - 1));
	assert_true(room_step(&r, &m, 20 * S));
	assert_true(room_step(&r, &m, 20 * S)); /* nothing under way: nothing to do */
	room_done(&r);
}

static void without_reclaim_a_cache_goes_that_is_no_more_than_twice_the_need(void **state)
{
	_cleanup_(guest_done) struct guest g = {0};
	struct agent_message m = with_available(10 * MIB);
	struct room r;

	guest_init(&g);
	put(&g, "proc/sys/vm/drop_caches", "");
	room_init(&r, g.fd);
	agent_set(&m, AGENT_CACHE, 191 * MIB);
	agent_set(&m, AGENT_DIRTY, 10 * MIB);
	room_begin(&r, 100 * MIB, 90 * S);
	assert_true(room_step(&r, &m, 10 * S)); /* 181 MiB clean, 90 lacking */
	assert_int_equal(r.drops, 0);
	agent_set(&m, AGENT_DIRTY, 11 * MIB);
	room_begin(&r, 100 * MIB, 90 * S);
	assert_false(room_step(&r, &m, 10 * S));
	expect_file(&g, "proc/sys/vm/drop_caches", "1");
	assert_true(room_step(&r, &m, 10 * S + ROOM_DROP_US - 1)); /* not so often */
	room_begin(&r, 100 * MIB, 90 * S);
	assert_false(room_step(&r, &m, 10 * S + ROOM_DROP_US));
	assert_int_equal(r.drops, 2);
	room_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(figures_are_those_of_the_kernel),
		cmocka_unit_test(what_a_kernel_lacks_is_left_out),
		cmocka_unit_test(nonsense_in_the_files_is_left_out),
		cmocka_unit_test(figures_of_this_very_machine_are_read),
		cmocka_unit_test(a_kill_is_distress_once),
		cmocka_unit_test(nearly_nothing_available_is_distress),
		cmocka_unit_test(
			tasks_that_all_stand_still_are_distress_only_with_little_available),
		cmocka_unit_test(it_asks_for_what_it_lacks_when_swap_runs_out_or_tasks_wait),
		cmocka_unit_test(it_gives_what_is_above_what_it_keeps),
		cmocka_unit_test(after_trouble_it_gives_nothing_for_a_while),
		cmocka_unit_test(the_floor_is_what_cannot_leave_and_what_it_keeps),
		cmocka_unit_test(room_is_made_by_the_kernels_reclaim_first),
		cmocka_unit_test(room_ends_at_its_deadline),
		cmocka_unit_test(without_reclaim_a_cache_goes_that_is_no_more_than_twice_the_need),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
