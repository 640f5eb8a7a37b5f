/* See figures.h. Each file is a table of names; what it does not name is passed over. */
#include "balloon-agent/figures.h"

#include <fcntl.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/cleanup.h"

#define KIB_BYTES      1024
/* Reports from one look at the zones to the next. */
#define ZONES_EVERY    60
/* Longer lines are of no interest, and cut. */
#define LINE_MAX_BYTES 128

static const char *const paths[FIGURES_FILES] = {
	[FIGURES_MEMINFO] = "proc/meminfo",
	[FIGURES_VMSTAT] = "proc/vmstat",
	[FIGURES_PRESSURE] = "proc/pressure/memory",
	[FIGURES_ZONEINFO] = "proc/zoneinfo",
	[FIGURES_OWN] = "proc/self/statm",
};

struct key {
	const char *name;
	enum agent_field field;
	int sign; /* fields may be sums */
};

/* KiB, "Name:" followed by blanks. */
static const struct key meminfo_keys[] = {
	{"MemTotal:", AGENT_TOTAL, 1},
	{"MemFree:", AGENT_FREE, 1},
	{"MemAvailable:", AGENT_AVAILABLE, 1},
	{"Buffers:", AGENT_CACHE, 1},
	{"Cached:", AGENT_CACHE, 1},
	{"Shmem:", AGENT_CACHE, -1},
	{"Dirty:", AGENT_DIRTY, 1},
	{"KReclaimable:", AGENT_RECLAIMABLE, 1},
	{"Active:", AGENT_ACTIVE, 1},
	{"Inactive:", AGENT_INACTIVE, 1},
	{"Unevictable:", AGENT_UNEVICTABLE, 1},
	{"SwapTotal:", AGENT_SWAP_TOTAL, 1},
	{"SwapFree:", AGENT_SWAP_FREE, 1},
	{"AnonHugePages:", AGENT_HUGE, 1},
	{"ShmemHugePages:", AGENT_HUGE, 1},
	{"FileHugePages:", AGENT_HUGE, 1},
	{"Hugetlb:", AGENT_HUGETLB, 1},
};

/* Counters, "name" and one blank. */
static const struct key vmstat_keys[] = {
	{"pgfault ", AGENT_FAULTS, 1},
	{"pgmajfault ", AGENT_MAJOR_FAULTS, 1},
	{"workingset_refault_anon ", AGENT_REFAULTS_ANON, 1},
	{"workingset_refault_file ", AGENT_REFAULTS_FILE, 1},
	{"workingset_refault ", AGENT_REFAULTS_FILE, 1}, /* before Linux 5.9: both */
	{"workingset_activate_anon ", AGENT_ACTIVATIONS, 1},
	{"workingset_activate_file ", AGENT_ACTIVATIONS, 1},
	{"workingset_activate ", AGENT_ACTIVATIONS, 1},
	{"pswpin ", AGENT_SWAP_IN_PAGES, 1},
	{"pswpout ", AGENT_SWAP_OUT_PAGES, 1},
	{"oom_kill ", AGENT_OOM_KILLS, 1},
	{"allocstall_dma32 ", AGENT_ALLOCATION_STALLS, 1},
	{"allocstall_normal ", AGENT_ALLOCATION_STALLS, 1},
	{"allocstall_movable ", AGENT_ALLOCATION_STALLS, 1},
};

int figures_init(struct figures *f, int root_fd)
{
	*f = (struct figures){.page_bytes = (uint64_t)sysconf(_SC_PAGESIZE)};
	for (unsigned i = 0; i < FIGURES_FILES; i++)
		f->fds[i] = openat(root_fd, paths[i], O_RDONLY | O_CLOEXEC);
	if (f->fds[FIGURES_MEMINFO] < 0) {
		figures_done(f);
		return -ENOENT;
	}
	return 0;
}

void figures_done(struct figures *f)
{
	for (unsigned i = 0; i < FIGURES_FILES; i++) {
		cleanup_closep(&f->fds[i]);
		f->fds[i] = -1;
	}
}

/* Digits to the end of the number; saturates. False: there is none. */
static bool number(const char *text, uint64_t *ret)
{
	uint64_t n = 0;

	while (*text == ' ')
		text++;
	if (*text < '0' || *text > '9')
		return false;
	for (; *text >= '0' && *text <= '9'; text++)
		if (__builtin_mul_overflow(n, 10, &n) ||
			__builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
			n = UINT64_MAX / 10;
	*ret = n;
	return true;
}

static bool begins_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

typedef void (*line_fn)(void *context, const char *line);

/* Each line of a file of any length, without its end. Negative errno. */
static int for_each_line(int fd, line_fn take, void *context)
{
	char buffer[4096], line[LINE_MAX_BYTES];
	size_t n_line = 0;
	off_t at = 0;
	ssize_t n;

	while ((n = pread(fd, buffer, sizeof(buffer), at)) > 0) {
		at += n;
		for (ssize_t i = 0; i < n; i++) {
			if (buffer[i] != '\n') {
				if (n_line < sizeof(line) - 1)
					line[n_line++] = buffer[i];
				continue;
			}
			line[n_line] = '\0';
			n_line = 0;
			take(context, line);
		}
	}
	return n < 0 ? -errno : 0;
}

static void add(struct agent_message *m, enum agent_field field, uint64_t value, int sign)
{
	uint64_t sum = agent_get(m, field, 0);

	if (sign < 0)
		sum = sum > value ? sum - value : 0;
	else if (__builtin_add_overflow(sum, value, &sum))
		sum = UINT64_MAX;
	agent_set(m, field, sum);
}

static void take_key(
	struct agent_message *m, const struct key *keys, size_t n, const char *line, uint64_t unit)
{
	uint64_t value;

	for (size_t i = 0; i < n; i++) {
		if (!begins_with(line, keys[i].name))
			continue;
		if (number(line + strlen(keys[i].name), &value) &&
			!__builtin_mul_overflow(value, unit, &value))
			add(m, keys[i].field, value, keys[i].sign);
		return;
	}
}

static void meminfo_line(void *context, const char *line)
{
	take_key(context, meminfo_keys, ARRAY_SIZE(meminfo_keys), line, KIB_BYTES);
}

static void vmstat_line(void *context, const char *line)
{
	take_key(context, vmstat_keys, ARRAY_SIZE(vmstat_keys), line, 1);
}

/* "avg10=1.23": 123 basis points. */
static bool percent(const char *line, const char *key, uint64_t *ret_bp)
{
	const char *at = strstr(line, key);
	uint64_t whole, part;

	if (!at || !number(at + strlen(key), &whole))
		return false;
	at = strchr(at, '.');
	if (!at || !number(at + 1, &part) || part > 99 || whole > 100)
		return false;
	*ret_bp = whole * 100 + part;
	return true;
}

/* "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" */
static void pressure_line(void *context, const char *line)
{
	struct agent_message *m = context;
	bool full = begins_with(line, "full ");
	const char *total = strstr(line, "total=");
	uint64_t value;

	if (!full && !begins_with(line, "some "))
		return;
	if (percent(line, "avg10=", &value))
		agent_set(m, full ? AGENT_PRESSURE_FULL_BP : AGENT_PRESSURE_SOME_BP, value);
	if (total && number(total + strlen("total="), &value))
		agent_set(m, full ? AGENT_PRESSURE_FULL_US : AGENT_PRESSURE_SOME_US, value);
}

/* "        min      1234", in pages, once in each zone. */
static void zone_line(void *context, const char *line)
{
	static const char *const names[] = {"min ", "low ", "high "};
	struct figures *f = context;
	uint64_t pages;

	while (*line == ' ')
		line++;
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (begins_with(line, names[i]) && number(line + strlen(names[i]), &pages))
			f->watermark[i] += pages * f->page_bytes;
}

static void read_zones(struct figures *f)
{
	if (f->fds[FIGURES_ZONEINFO] < 0 || f->zones_in-- > 0)
		return;
	f->zones_in = ZONES_EVERY;
	memset(f->watermark, 0, sizeof(f->watermark));
	(void)for_each_line(f->fds[FIGURES_ZONEINFO], zone_line, f);
}

/* "size resident ...", in pages. */
static void own_line(void *context, const char *line)
{
	const char *resident = strchr(line, ' ');
	uint64_t pages;

	if (resident && number(resident, &pages))
		agent_set(context, AGENT_OWN_BYTES, pages);
}

int figures_read(struct figures *f, struct agent_message *m)
{
	int r;

	r = for_each_line(f->fds[FIGURES_MEMINFO], meminfo_line, m);
	if (r < 0)
		return r;
	if (f->fds[FIGURES_VMSTAT] >= 0)
		(void)for_each_line(f->fds[FIGURES_VMSTAT], vmstat_line, m);
	if (f->fds[FIGURES_PRESSURE] >= 0)
		(void)for_each_line(f->fds[FIGURES_PRESSURE], pressure_line, m);
	read_zones(f);
	if (f->watermark[2]) {
		agent_set(m, AGENT_WATERMARK_MIN, f->watermark[0]);
		agent_set(m, AGENT_WATERMARK_LOW, f->watermark[1]);
		agent_set(m, AGENT_WATERMARK_HIGH, f->watermark[2]);
	}
	if (f->fds[FIGURES_OWN] >= 0)
		(void)for_each_line(f->fds[FIGURES_OWN], own_line, m);
	if (agent_has(m, AGENT_OWN_BYTES))
		agent_set(m, AGENT_OWN_BYTES, agent_get(m, AGENT_OWN_BYTES, 0) * f->page_bytes);
	agent_set(m, AGENT_OWN_CPU_US, clock_process_cpu_us());
	return 0;
}
