/*
 * The provider of libvirt's guests over libvirt's own test driver, which needs no daemon: domains in
 * this process, looked at by a real manager through the real library. Their "QEMU" is this program
 * again, with memory of the right size and a pid file where libvirt would write it; what is done to
 * that is real.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "memd/base/clock.h"
#include "memd/base/units.h"
#include "memd/libvirt.h"
#include "memd/manager.h"

#define WAIT_US	     (60 * US_PER_S)
#define RAM_BYTES    (64 * MIB)
#define TOUCHED_PART 2
#define UUID_A	     "6695eb01-f6a4-8304-79aa-00000000000a"
#define UUID_B	     "6695eb01-f6a4-8304-79aa-00000000000b"

const char *__tsan_default_suppressions(void);
/* glib's locks are futexes of its own, which the thread sanitizer cannot see. */
const char *__tsan_default_suppressions(void)
{
	return "called_from_lib:libglib-2.0.so\ncalled_from_lib:libvirt.so\nrace:libvirt.so\n"
	       "race:libglib-2.0.so\nthread:*\n";
}

struct world {
	struct manager *m;
	struct manager_options options;
	char dir[64];
	char config_path[80], guests_dir[80], run_dir[80], pid_dir[80];
	const char *pid_dirs[2];
	virConnectPtr connection;
	pid_t processes[4];
	size_t n_processes;
};

static char self_path[512];

/* What the child does: it is a QEMU whose guest has touched half of its RAM. */
static int be_qemu(void)
{
	char *ram =
		mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (ram == MAP_FAILED)
		return 1;
	madvise(ram, RAM_BYTES, MADV_NOHUGEPAGE);
	for (size_t at = 0; at < RAM_BYTES / TOUCHED_PART; at += PAGE_BYTES)
		ram[at] = (char)(at / PAGE_BYTES | 1);
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}

static void write_file(const char *path, const char *format, ...)
{
	FILE *f = fopen(path, "we");
	va_list ap;

	assert_non_null(f);
	va_start(ap, format);
	vfprintf(f, format, ap);
	va_end(ap);
	fclose(f);
}

static pid_t start_process(struct world *w, const char *name, const char *uuid)
{
	char path[512], ready[8];
	int fds[2];
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], 1);
		close(fds[0]);
		execl(self_path, self_path, "-uuid", uuid, "--be-qemu", (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], ready, sizeof(ready)), 6);
	close(fds[0]);
	w->processes[w->n_processes++] = pid;
	snprintf(path, sizeof(path), "%s/%s.pid", w->pid_dir, name);
	write_file(path, "%d\n", (int)pid);
	return pid;
}

static void end_process(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* A running domain; extra goes where memoryBacking and metadata go, devices among the devices. */
static virDomainPtr start_domain(
	struct world *w, const char *name, const char *uuid, const char *extra, const char *devices)
{
	char xml[2048];
	virDomainPtr domain;

	snprintf(xml, sizeof(xml),
		"<domain type='test'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>64</memory>"
		"<vcpu>1</vcpu>%s<os><type>hvm</type></os><devices>%s"
		"<memballoon model='virtio'/></devices></domain>",
		name, uuid, extra, devices);
	domain = virDomainCreateXML(w->connection, xml, 0);
	if (!domain)
		fail_msg("%s", virGetLastErrorMessage());
	return domain;
}

#define OPTED_IN                                                                                   \
	"<metadata><m:guest xmlns:m='urn:memd1:guest' Manage='yes' MemoryMin='16M'/></metadata>"

static void new_manager(struct world *w)
{
	struct error e = {0};

	if (manager_new(&w->options, &w->m, &e) < 0)
		fail_msg("%s", e.text);
}

static void write_config(struct world *w, const char *libvirt)
{
	write_file(w->config_path,
		"[Host]\nHostMemoryBudget=256M\nTickInterval=100ms\nCgroup=off\n[Share]\nMode=off\n"
		"[Libvirt]\nLibvirtUri=test:///default\n%s\n",
		libvirt);
}

static void on_error(void *context, virErrorPtr error)
{
}

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	virDomainPtr test;

	assert_non_null(w);
	snprintf(w->dir, sizeof(w->dir), "/tmp/memd-libvirt.XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->config_path, sizeof(w->config_path), "%s/memd.conf", w->dir);
	snprintf(w->guests_dir, sizeof(w->guests_dir), "%s/guests.d", w->dir);
	snprintf(w->run_dir, sizeof(w->run_dir), "%s/run", w->dir);
	snprintf(w->pid_dir, sizeof(w->pid_dir), "%s/pids", w->dir);
	w->pid_dirs[0] = w->pid_dir;
	assert_int_equal(mkdir(w->guests_dir, 0700), 0);
	assert_int_equal(mkdir(w->pid_dir, 0700), 0);
	write_config(w, "");
	w->options = (struct manager_options){
		.config_path = w->config_path,
		.guests_dir = w->guests_dir,
		.runtime_dir = w->run_dir,
		.state_dir = w->dir,
		.libvirt_pid_dirs = w->pid_dirs,
	};
	virSetErrorFunc(NULL, on_error);
	/* All connections to it see the same domains, as long as one is open. */
	w->connection = virConnectOpen("test:///default");
	assert_non_null(w->connection);
	test = virDomainLookupByName(w->connection, "test");
	if (test) { /* the one that it begins with */
		virDomainDestroy(test);
		virDomainFree(test);
	}
	new_manager(w);
	*state = w;
	return 0;
}

/* Turns the loop until the condition holds; fails the test when that takes too long. */
#define UNTIL(w, condition)                                                                        \
	do {                                                                                       \
		uint64_t until_begin_us_ = clock_monotonic_us();                                   \
		while (!(condition)) {                                                             \
			assert_true(clock_monotonic_us() - until_begin_us_ < WAIT_US);             \
			assert_true(sd_event_run((w)->m->event, 50 * US_PER_MS) >= 0);             \
		}                                                                                  \
	} while (0)

/* Turns it until libvirt was looked at so many times more. */
static void turn(struct world *w, uint64_t ticks)
{
	uint64_t until = w->m->figures.ticks + ticks;

	UNTIL(w, w->m->figures.ticks >= until);
}

static int tear_down(void **state)
{
	struct world *w = *state;
	virDomainPtr *domains = NULL;
	char command[96];
	int n = virConnectListAllDomains(w->connection, &domains, 0);

	for (int i = 0; i < n; i++) {
		virDomainDestroy(domains[i]);
		virDomainFree(domains[i]);
	}
	free(domains);
	manager_free(w->m);
	virConnectClose(w->connection);
	for (size_t i = 0; i < w->n_processes; i++)
		end_process(w->processes[i]);
	snprintf(command, sizeof(command), "rm -rf %s", w->dir);
	assert_int_equal(system(command), 0);
	free(w);
	return 0;
}

static struct guest *running(struct world *w, const char *name)
{
	struct guest *g = manager_find_guest(w->m, name);

	return g && g->state == GUEST_RUNNING && g->sample.valid ? g : NULL;
}

static void is_managed_when_its_metadata_say_so(void **state)
{
	struct world *w = *state;
	struct guest *g;

	start_process(w, "a", UUID_A);
	virDomainFree(start_domain(w, "a", UUID_A, OPTED_IN, ""));
	virDomainFree(start_domain(w, "b", UUID_B, "", ""));
	UNTIL(w, running(w, "a"));
	g = running(w, "a");
	assert_string_equal(g->ops->provider, "libvirt");
	assert_int_equal(g->min_bytes, 16 * MIB);
	assert_int_equal(g->max_bytes, RAM_BYTES);
	turn(w, 3);
	assert_null(manager_find_guest(w->m, "b"));
}

static void on_reloaded(void *context, int result, const struct refusal *refusal)
{
	assert_int_equal(result, 0);
}

static void all_are_managed_but_those_that_refuse(void **state)
{
	struct world *w = *state;
	struct refusal refusal = {0};
	char path[512];

	start_process(w, "a", UUID_A);
	virDomainFree(start_domain(w, "a", UUID_A, "", ""));
	virDomainFree(start_domain(w, "b", UUID_B, "", ""));
	snprintf(path, sizeof(path), "%s/b.domain", w->guests_dir);
	write_file(path, "[Domain]\nManage=no\n");
	snprintf(path, sizeof(path), "%s/a.domain", w->guests_dir);
	write_file(path, "[Domain]\nMemoryMin=32M\nShares=77\n");
	turn(w, 3);
	assert_int_equal(w->m->n_guests, 0);
	write_config(w, "ManageLibvirt=all");
	assert_int_equal(manager_reload(w->m, on_reloaded, NULL, &refusal), 0);
	UNTIL(w, running(w, "a"));
	assert_int_equal(running(w, "a")->min_bytes, 32 * MIB);
	assert_int_equal(running(w, "a")->config.shares, 77);
	turn(w, 3);
	assert_null(manager_find_guest(w->m, "b"));
}

static struct guest *start_managed(struct world *w, const char *name, const char *uuid)
{
	start_process(w, name, uuid);
	virDomainFree(start_domain(w, name, uuid, OPTED_IN, ""));
	UNTIL(w, running(w, name));
	return running(w, name);
}

static void ram_of_its_process_is_found_and_counted(void **state)
{
	struct world *w = *state;
	struct guest *g = start_managed(w, "a", UUID_A);

	assert_int_equal(guest_pid(g), w->processes[0]);
	assert_int_equal(g->process->n_regions, RAM_BYTES / CHUNK_BYTES);
	turn(w, 2);
	assert_int_equal(
		g->sample.kernel.ram_anonymous_pages * PAGE_BYTES, RAM_BYTES / TOUCHED_PART);
	assert_int_equal(g->ledger.private_bytes, RAM_BYTES / TOUCHED_PART);
	assert_true(g->ledger.overhead_bytes > 0); /* of a sanitizer it is large */
	assert_int_equal(
		g->ledger.resident_bytes, g->ledger.private_bytes + g->ledger.overhead_bytes);
	assert_int_equal(g->ledger.mismatch_bp, 0);
}

static uint64_t memory_of(virDomainPtr domain)
{
	virDomainInfo info;

	assert_int_equal(virDomainGetInfo(domain, &info), 0);
	return info.memory * UINT64_C(1024);
}

static void balloon_follows_the_operators_target(void **state)
{
	struct world *w = *state;
	struct guest *g = start_managed(w, "a", UUID_A);
	virDomainPtr domain = virDomainLookupByName(w->connection, "a");
	struct refusal refusal = {0};

	assert_int_equal(memory_of(domain), RAM_BYTES);
	assert_int_equal(manager_set_target(w->m, g, 44 * MIB, &refusal), 0);
	UNTIL(w, memory_of(domain) < RAM_BYTES);
	assert_true(memory_of(domain) >= 40 * MIB);
	UNTIL(w,
		g->sample.after.balloon_actual_pages * PAGE_BYTES == RAM_BYTES - memory_of(domain));
	assert_int_equal(
		manager_set_target(w->m, g, 8 * MIB, &refusal), -ERANGE); /* below its floor */
	virDomainFree(domain);
}

static void is_paused_and_goes_on_with_its_domain(void **state)
{
	struct world *w = *state;
	struct guest *g = start_managed(w, "a", UUID_A);
	virDomainPtr domain = virDomainLookupByName(w->connection, "a");

	assert_int_equal(virDomainSuspend(domain), 0);
	UNTIL(w, g->state == GUEST_PAUSED);
	assert_int_equal(virDomainResume(domain), 0);
	UNTIL(w, g->state == GUEST_RUNNING);
	virDomainFree(domain);
}

static void what_memd_does_not_do_to_it_is_refused(void **state)
{
	struct world *w = *state;
	struct guest *g = start_managed(w, "a", UUID_A);
	struct refusal refusal = {0};

	assert_int_equal(
		guest_pause(g, GUEST_PAUSER_OPERATOR, "", NULL, NULL, &refusal), -EOPNOTSUPP);
	assert_int_equal(refusal.kind, REFUSAL_NOT_SUPPORTED);
	assert_non_null(strstr(refusal.error.text, "virsh"));
	assert_int_equal(guest_may_stop(g, &refusal), -EOPNOTSUPP);
	assert_int_equal(guest_stop(g, GUEST_STOP_FORCE, NULL, NULL), -EOPNOTSUPP);
	assert_int_equal(guest_power_button(g, NULL, NULL, &refusal), -EOPNOTSUPP);
	assert_int_equal(guest_ask_hints(g, NULL, NULL, &refusal), -EOPNOTSUPP);
	assert_int_equal(guest_snapshot(g, "/tmp/none", NULL, NULL, &refusal), -EOPNOTSUPP);
	assert_non_null(strstr(guest_cannot(g), "pause"));
}

static void ends_with_its_domain(void **state)
{
	struct world *w = *state;
	virDomainPtr domain;

	start_managed(w, "a", UUID_A);
	domain = virDomainLookupByName(w->connection, "a");
	assert_int_equal(virDomainDestroy(domain), 0);
	UNTIL(w, w->m->n_guests == 0);
	virDomainFree(domain);
}

static void ends_with_its_process_whatever_libvirt_says(void **state)
{
	struct world *w = *state;

	start_managed(w, "a", UUID_A);
	kill(w->processes[0], SIGKILL);
	UNTIL(w, !running(w, "a"));
}

static void locked_memory_is_left_alone_and_why_is_said(void **state)
{
	struct world *w = *state;
	struct guest *g;

	start_process(w, "a", UUID_A);
	virDomainFree(start_domain(
		w, "a", UUID_A, OPTED_IN "<memoryBacking><locked/></memoryBacking>", ""));
	UNTIL(w, (g = running(w, "a")) != NULL);
	assert_true(guest_is_left_alone(g));
	assert_non_null(strstr(g->left_alone, "locked"));
	assert_int_equal(g->min_bytes, RAM_BYTES);
	turn(w, 3);
	assert_int_equal(g->sample.kernel.ram_swapped_pages, 0);
}

static void hard_limit_bounds_it_and_guarantee_is_its_floor(void **state)
{
	struct world *w = *state;
	struct guest *g;

	start_process(w, "a", UUID_A);
	virDomainFree(start_domain(w, "a", UUID_A,
		OPTED_IN "<memtune><hard_limit unit='MiB'>48</hard_limit>"
			 "<min_guarantee unit='MiB'>24</min_guarantee></memtune>",
		""));
	UNTIL(w, running(w, "a"));
	g = running(w, "a");
	assert_int_equal(g->max_bytes, 48 * MIB);
	assert_int_equal(g->min_bytes, 24 * MIB);
}

static void name_that_is_taken_or_no_name_here_gets_the_uuid(void **state)
{
	struct world *w = *state;

	start_managed(w, "a", UUID_A);
	start_process(w, "my vm", UUID_B);
	virDomainFree(start_domain(w, "my vm", UUID_B, OPTED_IN, ""));
	UNTIL(w, running(w, "my_vm-6695eb01"));
}

static void renamed_domain_is_a_guest_of_the_new_name(void **state)
{
	struct world *w = *state;
	virDomainPtr domain;

	start_managed(w, "a", UUID_A);
	domain = virDomainLookupByName(w->connection, "a");
	assert_int_equal(virDomainDestroy(domain), 0);
	virDomainFree(domain);
	start_process(w, "c", UUID_A);
	virDomainFree(start_domain(w, "c", UUID_A, OPTED_IN, ""));
	UNTIL(w, running(w, "c"));
	assert_null(manager_find_guest(w->m, "a"));
	assert_int_equal(guest_pid(running(w, "c")), w->processes[1]);
}

static void wrong_setting_in_its_metadata_manages_nothing(void **state)
{
	struct world *w = *state;

	start_process(w, "a", UUID_A);
	virDomainFree(start_domain(w, "a", UUID_A,
		"<metadata><m:guest xmlns:m='urn:memd1:guest' Manage='yes' MemoryMin='lots'/>"
		"</metadata>",
		""));
	virDomainFree(start_domain(w, "b", UUID_B, OPTED_IN, ""));
	UNTIL(w, manager_find_guest(w->m, "b"));
	turn(w, 2);
	assert_null(manager_find_guest(w->m, "a"));
}

static void without_its_process_it_is_shown_and_left_alone(void **state)
{
	struct world *w = *state;
	struct guest *g;

	virDomainFree(start_domain(w, "a", UUID_A, OPTED_IN, ""));
	UNTIL(w, (g = manager_find_guest(w->m, "a")) && g->left_alone[0]);
	assert_int_equal(guest_pid(g), 0);
	assert_int_equal(g->state, GUEST_STARTING);
}

/* The period of its statistics, by the domain's XML. */
static bool has_period(struct world *w, const char *name)
{
	virDomainPtr domain = virDomainLookupByName(w->connection, name);
	char *xml = virDomainGetXMLDesc(domain, 0);
	bool has = strstr(xml, "<stats period=") != NULL;

	free(xml);
	virDomainFree(domain);
	return has;
}

static void end_manager(struct world *w)
{
	manager_exit(w->m);
	assert_int_equal(sd_event_loop(w->m->event), 0);
	manager_free(w->m);
	w->m = NULL;
}

static void period_is_put_back_when_memd_ends(void **state)
{
	struct world *w = *state;

	start_managed(w, "a", UUID_A);
	UNTIL(w, has_period(w, "a"));
	end_manager(w);
	assert_false(has_period(w, "a"));
	new_manager(w);
}

static void period_that_a_killed_memd_changed_is_put_back_by_the_next(void **state)
{
	struct world *w = *state;

	start_managed(w, "a", UUID_A);
	UNTIL(w, has_period(w, "a"));
	manager_free(w->m); /* as if killed: nothing is put back */
	assert_true(has_period(w, "a"));
	new_manager(w);
	UNTIL(w, running(w, "a"));
	end_manager(w);
	assert_false(has_period(w, "a"));
	new_manager(w);
}

static void period_is_put_back_when_it_is_managed_no_more(void **state)
{
	struct world *w = *state;
	struct refusal refusal = {0};

	start_managed(w, "a", UUID_A);
	UNTIL(w, has_period(w, "a"));
	write_config(w, "ManageLibvirt=no");
	assert_int_equal(manager_reload(w->m, on_reloaded, NULL, &refusal), 0);
	UNTIL(w, !has_period(w, "a"));
	assert_int_equal(w->m->n_guests, 0);
}

static void crashed_domain_is_a_failed_guest(void **state)
{
	struct world *w = *state;
	char path[512];

	end_manager(w);
	snprintf(path, sizeof(path), "%s/node.xml", w->dir);
	/* 6: VIR_DOMAIN_CRASHED, kept for a look */
	write_file(path,
		"<node><domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>"
		"<name>a</name><uuid>" UUID_A "</uuid><memory unit='MiB'>64</memory>" OPTED_IN
		"<os><type>hvm</type></os><test:runstate>6</test:runstate></domain></node>");
	write_file(w->config_path,
		"[Host]\nHostMemoryBudget=256M\nTickInterval=100ms\nCgroup=off\n[Share]\nMode=off\n"
		"[Libvirt]\nLibvirtUri=test://%s\n",
		path);
	start_process(w, "a", UUID_A);
	new_manager(w);
	UNTIL(w, manager_find_guest(w->m, "a") &&
			 manager_find_guest(w->m, "a")->state == GUEST_FAILED);
	assert_string_equal(manager_find_guest(w->m, "a")->state_reason, "the guest crashed");
}

int main(int argc, char **argv)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(is_managed_when_its_metadata_say_so),
		T(all_are_managed_but_those_that_refuse),
		T(ram_of_its_process_is_found_and_counted),
		T(balloon_follows_the_operators_target),
		T(is_paused_and_goes_on_with_its_domain),
		T(what_memd_does_not_do_to_it_is_refused),
		T(ends_with_its_domain),
		T(ends_with_its_process_whatever_libvirt_says),
		T(locked_memory_is_left_alone_and_why_is_said),
		T(hard_limit_bounds_it_and_guarantee_is_its_floor),
		T(name_that_is_taken_or_no_name_here_gets_the_uuid),
		T(renamed_domain_is_a_guest_of_the_new_name),
		T(wrong_setting_in_its_metadata_manages_nothing),
		T(without_its_process_it_is_shown_and_left_alone),
		T(period_is_put_back_when_memd_ends),
		T(period_that_a_killed_memd_changed_is_put_back_by_the_next),
		T(period_is_put_back_when_it_is_managed_no_more),
		T(crashed_domain_is_a_failed_guest),
	};
	ssize_t n;

	if (argc == 4 && strcmp(argv[3], "--be-qemu") == 0)
		return be_qemu();
	n = readlink("/proc/self/exe", self_path, sizeof(self_path) - 1);
	if (n < 0)
		return 1;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
