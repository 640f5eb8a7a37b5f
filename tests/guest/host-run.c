/* See host-run.h. */
#include "tests/guest/host-run.h"

#include <inttypes.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "memd/base/clock.h"
#include "memd/base/log.h"
#include "tests/guest/service-run.h"

#define STEP_US	      (20 * US_PER_MS)
#define END_MAX_US    (5 * US_PER_S)
#define START_MAX_US  (60 * US_PER_S)
/* Before any other: somebody else's swapoff would bring our pages back. */
#define SWAP_PRIORITY 30000
#define CONSOLE_MAX   (8 * MIB)

/* The one that runs: a test or benchmark has one at a time. */
static struct host_run *running;
static bool cleans_up;

/* Nothing of it may be left behind: guests outlive a memd that ends. */
static void take_down(struct host_run *h)
{
	uint64_t end_us = clock_monotonic_us() + END_MAX_US;

	running = NULL; /* what fails now fails at once */
	for (size_t i = 0; h->m && i < h->m->n_guests; i++)
		child_signal(&h->m->guests[i]->child, SIGKILL);
	while (h->m && h->m->n_guests > 0 && clock_monotonic_us() < end_us &&
		sd_event_get_state(h->m->event) != SD_EVENT_FINISHED)
		sd_event_run(h->m->event, STEP_US);
	host_run_end(h);
}

/* Of a test whose assertion failed. */
static void take_down_at_exit(void)
{
	if (running)
		take_down(running);
}

void host_run_fail(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

static void write_config(const struct host_run *h, const char *settings)
{
	FILE *f = fopen(h->config_path, "we");

	if (!f)
		host_run_fail("cannot write %s: %m", h->config_path);
	fprintf(f,
		"[Libvirt]\nManageLibvirt=no\n"
		"[Host]\nVmmPath=%s\nPoolPath=%s\nCgroupName=memd-bench-%d\n%s\n",
		h->vmm, h->pool, (int)getpid(), settings);
	fclose(f);
}

static void find(const char *relative, char *ret, size_t size)
{
	if (service_run_build_path(relative, ret, size) < 0)
		host_run_fail("there is no %s in this build", relative);
}

void host_run_start(struct host_run *h, const char *settings, uint64_t swap_bytes)
{
	struct error e = {0};
	int r;

	*h = (struct host_run){.swap = ZRAM_SWAP_NONE};
	if (getuid() != 0)
		host_run_fail("run it as root: it sets up zram and cgroups");
	snprintf(h->directory, sizeof(h->directory), "/tmp/memd-bench-XXXXXX");
	if (!mkdtemp(h->directory))
		host_run_fail("cannot make a directory: %m");
	snprintf(h->config_path, sizeof(h->config_path), "%s/memd.conf", h->directory);
	snprintf(h->guests_dir, sizeof(h->guests_dir), "%s/guests.d", h->directory);
	snprintf(h->runtime_dir, sizeof(h->runtime_dir), "%s/run", h->directory);
	find("tests/guest/memd-guest", h->kernel, sizeof(h->kernel));
	find("kvm-glue/memd-vmm", h->vmm, sizeof(h->vmm));
	find("dedup/memd-pool", h->pool, sizeof(h->pool));
	write_config(h, settings);
	if (mkdir(h->guests_dir, 0700) < 0)
		host_run_fail("cannot make %s: %m", h->guests_dir);
	r = swap_bytes ? zram_swap_init_before(&h->swap, swap_bytes, SWAP_PRIORITY) : 0;
	if (r < 0)
		host_run_fail("no zram: %s", strerror(-r));
	h->options = (struct manager_options){
		.config_path = h->config_path,
		.guests_dir = h->guests_dir,
		.runtime_dir = h->runtime_dir,
		.state_dir = h->directory,
	};
	if (!cleans_up)
		cleans_up = atexit(take_down_at_exit) == 0;
	running = h;
	log_set_max_level(LOG_LEVEL_WARNING);
	if (manager_new(&h->options, &h->m, &e) < 0)
		host_run_fail("%s", e.text);
}

static void turn(struct host_run *h)
{
	if (sd_event_run(h->m->event, STEP_US) < 0)
		host_run_fail("the loop ended");
}

void host_run_stop_guest(struct host_run *h, struct guest *g)
{
	uint64_t id = g->id;
	bool there = true;

	guest_stop(g, GUEST_STOP_FORCE, NULL, NULL);
	while (there) {
		turn(h);
		there = false;
		for (size_t i = 0; i < h->m->n_guests; i++)
			there |= h->m->guests[i]->id == id;
	}
}

void host_run_end(struct host_run *h)
{
	char command[128];

	while (running && h->m && h->m->n_guests > 0)
		host_run_stop_guest(h, h->m->guests[0]);
	running = NULL;
	manager_free(h->m);
	zram_swap_done(&h->swap);
	snprintf(command, sizeof(command), "rm -rf '%s'", h->directory);
	if (system(command) != 0)
		fprintf(stderr, "%s stays behind\n", h->directory);
	*h = (struct host_run){.swap = ZRAM_SWAP_NONE};
}

struct answer {
	bool came;
	int result;
	char text[512];
};

static void on_answer(void *context, int result, const struct refusal *refusal)
{
	struct answer *a = context;

	a->came = true;
	a->result = result;
	if (refusal)
		snprintf(a->text, sizeof(a->text), "%s", refusal->error.text);
}

struct guest *host_run_guest(struct host_run *h, const char *name, uint64_t memory_bytes,
	unsigned n_vcpus, const char *command_line)
{
	char memory[24], vcpus[12], line[1024];
	struct config_pair settings[] = {
		{.key = (char[]){"Memory"}, .value = memory},
		{.key = (char[]){"VCpus"}, .value = vcpus},
		{.key = (char[]){"Kernel"}, .value = h->kernel},
		{.key = (char[]){"CommandLine"}, .value = line},
		{.key = (char[]){"MemoryMin"}, .value = (char[]){"8M"}},
	};
	struct refusal refusal = {0};
	struct answer answer = {0};
	struct guest *g;
	uint64_t end_us = clock_monotonic_us() + START_MAX_US;

	snprintf(memory, sizeof(memory), "%" PRIu64, memory_bytes);
	snprintf(vcpus, sizeof(vcpus), "%u", n_vcpus);
	snprintf(line, sizeof(line), "%s", command_line);
	if (manager_start_guest(h->m, name, settings, ARRAY_SIZE(settings), on_answer, &answer, &g,
		    &refusal) < 0)
		host_run_fail("%s", refusal.error.text);
	while (!answer.came && clock_monotonic_us() < end_us)
		turn(h);
	if (!answer.came || answer.result < 0)
		host_run_fail("guest %s did not start: %s", name, answer.text);
	return g;
}

void host_run_for(struct host_run *h, uint64_t us)
{
	uint64_t end_us = clock_monotonic_us() + us;

	while (clock_monotonic_us() < end_us)
		turn(h);
}

static char *read_console(const struct guest *g)
{
	char *text;

	return fd_read_file_at(AT_FDCWD, g->console_path, CONSOLE_MAX, &text, NULL) < 0 ? NULL
											: text;
}

uint64_t host_run_value(const struct guest *g, const char *name)
{
	_cleanup_free_ char *text = read_console(g);
	char key[64];
	uint64_t value = 0;
	char *end = text ? strrchr(text, '\n') : NULL;

	if (!end)
		return 0;
	*end = '\0';
	snprintf(key, sizeof(key), " %s=", name);
	for (const char *at = text; (at = strstr(at, key)); at += strlen(key))
		value = strtoull(at + strlen(key), NULL, 10);
	return value;
}

bool host_run_has_text(const struct guest *g, const char *text)
{
	_cleanup_free_ char *console = read_console(g);

	return console && strstr(console, text);
}

void host_run_until_value(
	struct host_run *h, struct guest *g, const char *name, uint64_t least, uint64_t timeout_us)
{
	uint64_t end_us = clock_monotonic_us() + timeout_us;

	while (host_run_value(g, name) < least) {
		if (clock_monotonic_us() > end_us)
			host_run_fail("guest %s: no %s=%" PRIu64 " in time", g->name, name, least);
		host_run_for(h, 5 * STEP_US);
	}
}

void host_run_until_text(struct host_run *h, struct guest *g, const char *text, uint64_t timeout_us)
{
	uint64_t end_us = clock_monotonic_us() + timeout_us;

	while (!host_run_has_text(g, text)) {
		if (clock_monotonic_us() > end_us)
			host_run_fail("guest %s: no \"%s\" in time", g->name, text);
		host_run_for(h, 5 * STEP_US);
	}
}
