/* KSM of the kernel: the decision, and the files; see ksm.h. */
#include "memd/ksm.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/log.h"
#include "memd/base/overflow.h"
#include "memd/base/procfs.h"
#include "memd/base/units.h"

#define DIRECTORY      "/sys/kernel/mm/ksm"
#define IDLE_PART      10
#define SCANS_TO_JUDGE 2
#define BP_ONE	       10000

/* The decision. */

static void watch_anew(struct ksm *k, const struct ksm_in *in)
{
	k->watch_scans = in->full_scans;
	k->watch_cpu_us = in->cpu_us;
	k->watch_profit_bytes = in->profit_bytes;
}

/* Whether two whole scans brought less than they cost. */
static bool does_not_pay(struct ksm *k, const struct ksm_in *in)
{
	uint64_t cpu_us = u64_sub_or_zero(in->cpu_us, k->watch_cpu_us);
	int64_t gained = in->profit_bytes - k->watch_profit_bytes;
	bool poor;

	if (in->full_scans < k->watch_scans + SCANS_TO_JUDGE)
		return false;
	poor = gained < (int64_t)((unsigned __int128)KSM_PAYS_BYTES_PER_S * cpu_us / US_PER_S);
	watch_anew(k, in);
	return poor;
}

static uint32_t pace(const struct ksm *k, const struct ksm_in *in)
{
	uint64_t time_us = in->now_us - k->last_us;
	uint64_t used_us = u64_sub_or_zero(in->cpu_us, k->last_cpu_us);
	uint64_t pages = k->pages ? k->pages : KSM_PAGES_MIN;

	if (k->last_us && used_us * BP_ONE > time_us * in->max_cpu_bp)
		pages /= 2;
	else if (in->wanted)
		pages *= 2;
	else
		pages = u64_min(pages, KSM_PAGES_MAX / IDLE_PART);
	return (uint32_t)u64_min(u64_max(pages, KSM_PAGES_MIN), KSM_PAGES_MAX);
}

bool ksm_decide(struct ksm *k, const struct ksm_in *in)
{
	if (!k->running && in->wanted && in->now_us >= k->rest_until_us) {
		k->running = true;
		k->pages = 0;
		watch_anew(k, in);
	} else if (k->running && does_not_pay(k, in)) {
		k->running = false;
		k->rest_until_us = in->now_us + KSM_REST_US;
	}
	if (k->running)
		k->pages = pace(k, in);
	k->last_us = in->now_us;
	k->last_cpu_us = in->cpu_us;
	return k->running;
}

/* The files. */

struct ksm_steering {
	char *note_path;
	int dir_fd;
	pid_t ksmd; /* 0: not found, its CPU time is not known */
	bool noted; /* what was found is in note_path, and something was changed */
	uint64_t found_run, found_pages;
	uint64_t set_run, set_pages; /* as last written */
	bool advised;
	struct ksm ksm;
};

static int read_number(int dir_fd, const char *file, uint64_t *ret)
{
	_cleanup_free_ char *text = NULL;
	int r = fd_read_file_at(dir_fd, file, 64, &text, NULL);

	if (r < 0)
		return r;
	return sscanf(text, "%" SCNu64, ret) == 1 ? 0 : -EPROTO;
}

static int write_number(int dir_fd, const char *file, uint64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, n);
	return fd_write_file_at(dir_fd, file, text);
}

/* pages_to_scan is the kernel's own when it has an advisor that is at work: "none [scan-time]". */
static bool is_advised(int dir_fd)
{
	_cleanup_free_ char *text = NULL;

	return fd_read_file_at(dir_fd, "advisor_mode", 64, &text, NULL) == 0 &&
	       strstr(text, "[none]") == NULL;
}

static pid_t find_ksmd(void)
{
	_cleanup_closedir_ DIR *dir = opendir("/proc");
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		_cleanup_free_ char *text = NULL;
		char path[300];

		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		if (fd_read_file_at(AT_FDCWD, path, 64, &text, NULL) == 0 &&
			strcmp(text, "ksmd\n") == 0)
			return (pid_t)strtol(entry->d_name, NULL, 10);
	}
	return 0;
}

static void put_back(struct ksm_steering *s, uint64_t run, uint64_t pages)
{
	int r = 0;

	if (!s->advised)
		r = write_number(s->dir_fd, "pages_to_scan", pages);
	if (r == 0)
		r = write_number(s->dir_fd, "run", run);
	if (r < 0)
		log_warning("KSM is not as it was found (run %" PRIu64 ", pages_to_scan %" PRIu64
			    "): %s",
			run, pages, strerror(-r));
	else
		unlink(s->note_path);
}

static void put_back_of_former(struct ksm_steering *s)
{
	_cleanup_free_ char *text = NULL;
	uint64_t run, pages;

	if (fd_read_file_at(AT_FDCWD, s->note_path, 128, &text, NULL) < 0)
		return;
	if (sscanf(text, "%" SCNu64 " %" SCNu64, &run, &pages) == 2 && run <= 2)
		put_back(s, run, pages);
}

int ksm_steering_new(const char *note_path, struct ksm_steering **ret, struct error *e)
{
	struct ksm_steering *s = calloc(1, sizeof(*s));
	int r = 0;

	if (!s)
		return -ENOMEM;
	s->note_path = strdup(note_path);
	s->dir_fd = open(DIRECTORY, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir_fd < 0)
		r = error_set(
			e, -EOPNOTSUPP, "this kernel does not merge pages: there is no " DIRECTORY);
	else if (!s->note_path)
		r = -ENOMEM;
	if (r == 0) {
		s->advised = is_advised(s->dir_fd);
		put_back_of_former(s);
		r = read_number(s->dir_fd, "run", &s->found_run);
	}
	if (r == 0)
		r = read_number(s->dir_fd, "pages_to_scan", &s->found_pages);
	if (r < 0) {
		ksm_steering_free(s);
		return r;
	}
	s->set_run = s->found_run;
	s->set_pages = s->found_pages;
	s->ksmd = find_ksmd();
	*ret = s;
	return 0;
}

void ksm_steering_free(struct ksm_steering *s)
{
	if (!s)
		return;
	if (s->noted)
		put_back(s, s->found_run, s->found_pages);
	cleanup_closep(&s->dir_fd);
	free(s->note_path);
	free(s);
}

/* Before the first change. */
static bool note_found(struct ksm_steering *s)
{
	char text[64];

	if (s->noted)
		return true;
	snprintf(text, sizeof(text), "%" PRIu64 " %" PRIu64 "\n", s->found_run, s->found_pages);
	s->noted = fd_replace_file(s->note_path, text) == 0;
	return s->noted;
}

static void set(struct ksm_steering *s, const char *file, uint64_t *known, uint64_t n)
{
	if (*known == n || !note_found(s))
		return;
	if (write_number(s->dir_fd, file, n) == 0)
		*known = n;
}

void ksm_steering_tick(struct ksm_steering *s, uint64_t now_us, bool wanted, int64_t profit_bytes,
	uint32_t max_cpu_bp)
{
	struct ksm_in in = {
		.now_us = now_us,
		.wanted = wanted,
		.profit_bytes = profit_bytes,
		.max_cpu_bp = max_cpu_bp,
	};
	struct proc_stat stat = {0};
	bool was_running = s->ksm.running, run;

	if (s->ksmd && procfs_read_stat(s->ksmd, &stat) == 0)
		in.cpu_us = stat.cpu_us;
	if (read_number(s->dir_fd, "full_scans", &in.full_scans) < 0)
		return;
	run = ksm_decide(&s->ksm, &in);
	if (!run && !was_running)
		return; /* as it was found, or as it was left when it did not pay */
	if (run && !s->advised)
		set(s, "pages_to_scan", &s->set_pages, s->ksm.pages);
	set(s, "run", &s->set_run, run ? 1 : 0);
	if (run != was_running)
		log_info("KSM %s: %s of libvirt's guests are saved by it, ksmd has used %" PRIu64
			 " ms of CPU",
			run ? "is on" : "is off, it does not pay",
			UNITS_BYTES(profit_bytes > 0 ? (uint64_t)profit_bytes : 0),
			in.cpu_us / US_PER_MS);
}

bool ksm_parse_profit(const char *text, int64_t *ret)
{
	static const char name[] = "ksm_process_profit ";
	const char *line = strstr(text, name);

	return line && sscanf(line + sizeof(name) - 1, "%" SCNd64, ret) == 1;
}

int64_t ksm_profit_of(int pid)
{
	_cleanup_free_ char *text = NULL;
	int64_t bytes = 0;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ksm_stat", pid);
	if (fd_read_file_at(AT_FDCWD, path, 4096, &text, NULL) < 0 ||
		!ksm_parse_profit(text, &bytes))
		return 0;
	return bytes;
}
