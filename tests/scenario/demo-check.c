/*
 * demo-check --bus ADDRESS --consoles DIR [--json]: the end of scripts/demo. Reads memd's ledger
 * and, between two readings of it, the kernel's own figures; adds up what the guests verified, from their
 * consoles; prints the summary (with --json: on stderr, and one object on stdout) and judges it.
 * Exit status: 0 as it should be, 1 not (with the reasons on stderr), 2 wrong usage. Changes nothing.
 */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/units.h"
#include "memd/memctl/client.h"
#include "tests/scenario/demo-kernel.h"

/* What the demo promises. */
#define PEAK_LIMIT_PERCENT 110 /* of the budget */
#define OVERCOMMIT_MIN	   3
#define PAGES_VERIFIED_MIN 5000000
#define MISMATCH_LIMIT_BP  200

/* A bracket is tried again when the guests changed too much meanwhile. */
#define BRACKET_TRIES	    5
#define BRACKET_WAIT_MAX_US (5 * US_PER_S)
#define CONSOLE_BYTES_MAX   (8 * MIB)

struct summary {
	struct json_object *host, *guests; /* of the last snapshot */
	uint64_t pages_verified, pages_corrupt;
	uint32_t mismatch_bp; /* ours: ledger against kernel */
	struct kernel_figures kernel;
	FILE *problems; /* said after the figures */
	unsigned n_problems;
};

static void problem(struct summary *s, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void problem(struct summary *s, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fputs("NOT AS IT SHOULD BE: ", s->problems);
	vfprintf(s->problems, format, arguments);
	fputc('\n', s->problems);
	va_end(arguments);
	s->n_problems++;
}

/* Reads everything from memd; ends the program when that fails, since nothing can be said then. */
static struct json_object *read_ledger(struct memctl *m)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	struct json_object *snapshot;
	int r = client_snapshot(m, &e, &snapshot);

	if (r < 0)
		exit((int)client_report(m, NULL, r, &e));
	return snapshot;
}

static struct json_object *host_of(struct json_object *snapshot)
{
	return json_object_object_get(snapshot, "host");
}

/*
 * Reads the ledger until it has made two more ticks than `before`: one may have been under way when the
 * kernel's figures were read.
 */
static struct json_object *read_later_ledger(struct memctl *m, struct json_object *before)
{
	uint64_t ticks = figure_u64(host_of(before), "ticks");

	for (uint64_t waited_us = 0;; waited_us += 50 * US_PER_MS) {
		struct json_object *later = read_ledger(m);

		if (figure_u64(host_of(later), "ticks") >= ticks + 2 ||
			waited_us > BRACKET_WAIT_MAX_US)
			return later;
		json_object_put(later);
		clock_sleep_us(50 * US_PER_MS);
	}
}

/* How far `value` lies outside what the two ledgers say, in basis points of it. */
static uint32_t distance_bp(
	struct json_object *before, struct json_object *after, const char *key, uint64_t value)
{
	uint64_t a = figure_u64(host_of(before), key), b = figure_u64(host_of(after), key);
	uint64_t low = a < b ? a : b, high = a < b ? b : a;
	uint64_t distance = value < low ? low - value : value > high ? value - high : 0;
	/* a figure that is next to nothing is not worth a per cent of itself */
	uint64_t whole = figure_u64(host_of(after), "budget_bytes") / 16;

	if (value > whole)
		whole = value;
	return whole ? (uint32_t)(distance * 10000 / whole) : 0;
}

static uint32_t worst_bp(
	struct json_object *before, struct json_object *after, const struct kernel_figures *k)
{
	const struct {
		const char *key;
		uint64_t value;
	} figures[] = {
		{"used_bytes", k->process_bytes + k->pool_bytes + k->occupied_bytes},
		{"pool_bytes", k->pool_bytes},
		{"swap_occupied_bytes", k->occupied_bytes},
		{"swap_used_bytes", k->swapped_bytes},
	};
	uint32_t worst = 0;

	for (size_t i = 0; i < ARRAY_SIZE(figures); i++) {
		uint32_t bp = distance_bp(before, after, figures[i].key, figures[i].value);

		if (bp > MISMATCH_LIMIT_BP)
			fprintf(stderr,
				"%s: memd %" PRIu64 " then %" PRIu64 ", kernel %" PRIu64 "\n",
				figures[i].key, figure_u64(host_of(before), figures[i].key),
				figure_u64(host_of(after), figures[i].key), figures[i].value);
		if (bp > worst)
			worst = bp;
	}
	return worst;
}

/* Ledger, kernel, ledger: keeps the last ledger and the best of some tries. *ret_snapshot owns s->host. */
static int cross_check(struct memctl *m, pid_t memd_pid, struct summary *s,
	struct json_object **ret_snapshot, struct error *e)
{
	struct json_object *after = read_ledger(m);

	s->mismatch_bp = UINT32_MAX;
	for (unsigned i = 0; i < BRACKET_TRIES && s->mismatch_bp > MISMATCH_LIMIT_BP; i++) {
		struct json_object *before = after;
		uint32_t bp;
		int r = kernel_figures_read(memd_pid, &s->kernel, e);

		if (r < 0) {
			json_object_put(before);
			return r;
		}
		after = read_later_ledger(m, before);
		bp = worst_bp(before, after, &s->kernel);
		if (bp < s->mismatch_bp)
			s->mismatch_bp = bp;
		json_object_put(before);
	}
	s->host = host_of(after);
	s->guests = json_object_object_get(after, "guests");
	*ret_snapshot = after;
	return 0;
}

/* The last number behind `key` in text, which may be a console in full flow. -ENOENT: none. */
static int last_number(const char *text, const char *key, uint64_t *ret)
{
	int r = -ENOENT;

	for (const char *c = text; (c = strstr(c, key)); c += strlen(key))
		if (sscanf(c + strlen(key), "%" SCNu64, ret) == 1)
			r = 0;
	return r;
}

/* Ends at the last whole line: a number that is being written is not read. */
static void cut_partial_line(char *text)
{
	char *end = strrchr(text, '\n');

	if (end)
		*end = '\0';
	else
		*text = '\0';
}

static void read_console(struct summary *s, const char *directory, const char *name)
{
	_cleanup_free_ char *text = NULL;
	char path[4096];
	uint64_t verified, corrupt;
	size_t size;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	if (fd_read_file_at(AT_FDCWD, path, CONSOLE_BYTES_MAX, &text, &size) < 0) {
		problem(s, "%s has no console in %s", name, directory);
		return;
	}
	cut_partial_line(text);
	if (last_number(text, " verified=", &verified) < 0 ||
		last_number(text, " corrupt=", &corrupt) < 0) {
		problem(s, "%s reported nothing on its console", name);
		return;
	}
	if (verified == 0)
		problem(s, "%s verified nothing", name);
	s->pages_verified += verified;
	s->pages_corrupt += corrupt;
}

static void read_consoles(struct summary *s, const char *directory)
{
	for (size_t i = 0; i < json_object_array_length(s->guests); i++) {
		struct json_object *guest = json_object_array_get_idx(s->guests, i);
		const char *name = figure_text(guest, "name");
		const char *state = figure_text(guest, "state");

		/* a pause, while another guest gets room, is memd's business */
		if (strcmp(state, "running") != 0 && strcmp(state, "paused") != 0)
			problem(s, "%s is %s: %s", name, state, figure_text(guest, "state_reason"));
		read_console(s, directory, name);
	}
}

static void judge(struct summary *s)
{
	static const char *const saved[] = {"saved_sharing_bytes", "saved_zero_bytes",
		"saved_balloon_bytes", "saved_paging_bytes"};
	uint64_t budget = figure_u64(s->host, "budget_bytes");
	uint64_t ledger_bp = figure_u64(s->host, "ledger_mismatch_basis_points");

	if (s->pages_corrupt > 0)
		problem(s, "%" PRIu64 " pages corrupt", s->pages_corrupt);
	if (s->pages_verified <= PAGES_VERIFIED_MIN)
		problem(s, "only %" PRIu64 " pages verified", s->pages_verified);
	if (figure_u64(s->host, "peak_used_bytes") > budget / 100 * PEAK_LIMIT_PERCENT)
		problem(s, "the peak is above %d %% of the budget", PEAK_LIMIT_PERCENT);
	if (figure_u64(s->host, "configured_bytes") < OVERCOMMIT_MIN * budget)
		problem(s, "less than %d times the budget is configured", OVERCOMMIT_MIN);
	for (size_t i = 0; i < ARRAY_SIZE(saved); i++)
		if (figure_u64(s->host, saved[i]) == 0)
			problem(s, "%s is 0", saved[i]);
	if (s->mismatch_bp > MISMATCH_LIMIT_BP)
		problem(s, "ledger and kernel differ by %.1f %%", s->mismatch_bp / 100.0);
	if (ledger_bp > MISMATCH_LIMIT_BP)
		problem(s, "by memd's own check its ledger is off by %.1f %%",
			(double)ledger_bp / 100);
}

static void print_size(FILE *out, const struct summary *s, const char *label, const char *key)
{
	fprintf(out, "  %-22s %10s\n", label, UNITS_BYTES(figure_u64(s->host, key)));
}

static void print_summary(FILE *out, const struct summary *s)
{
	double budget = (double)figure_u64(s->host, "budget_bytes");

	fprintf(out, "\n%zu guests, %.1f times the budget in memory:\n",
		json_object_array_length(s->guests),
		(double)figure_u64(s->host, "configured_bytes") / budget);
	print_size(out, s, "configured", "configured_bytes");
	print_size(out, s, "budget", "budget_bytes");
	fprintf(out, "  %-22s %10s  %.0f %% of the budget\n", "peak used",
		UNITS_BYTES(figure_u64(s->host, "peak_used_bytes")),
		(double)figure_u64(s->host, "peak_used_bytes") / budget * 100);
	print_size(out, s, "used at the end", "used_bytes");
	print_size(out, s, "saved by sharing", "saved_sharing_bytes");
	print_size(out, s, "saved by zero pages", "saved_zero_bytes");
	print_size(out, s, "saved by balloon", "saved_balloon_bytes");
	print_size(out, s, "saved by paging", "saved_paging_bytes");
	fprintf(out, "  %-22s %10" PRIu64 "  by the guests themselves, every word\n",
		"pages verified", s->pages_verified);
	fprintf(out, "  %-22s %10" PRIu64 "\n", "pages corrupt", s->pages_corrupt);
	fprintf(out, "  %-22s %8.2f %%  (%u processes, read between two ledgers)\n\n",
		"ledger against kernel", s->mismatch_bp / 100.0, s->kernel.n_processes);
}

static void add_figure(struct json_object *object, const struct summary *s, const char *key)
{
	json_object_object_add(object, key, json_object_new_uint64(figure_u64(s->host, key)));
}

static void print_json(const struct summary *s)
{
	static const char *const keys[] = {"configured_bytes", "budget_bytes", "peak_used_bytes",
		"saved_sharing_bytes", "saved_zero_bytes", "saved_balloon_bytes",
		"saved_paging_bytes"};
	_cleanup_json_ struct json_object *object = json_object_new_object();

	json_object_object_add(
		object, "guests", json_object_new_uint64(json_object_array_length(s->guests)));
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		add_figure(object, s, keys[i]);
	json_object_object_add(object, "pages_verified", json_object_new_uint64(s->pages_verified));
	json_object_object_add(object, "pages_corrupt", json_object_new_uint64(s->pages_corrupt));
	memctl_print_json(object);
}

/* The process that owns memd's name on the bus. */
static int find_memd(struct memctl *m, pid_t *ret_pid)
{
	_cleanup_(sd_bus_creds_unrefp) sd_bus_creds *creds = NULL;
	int r = client_connect(m);

	if (r >= 0)
		r = sd_bus_get_name_creds(m->bus, MEMD_BUS_NAME, SD_BUS_CREDS_PID, &creds);
	if (r >= 0)
		r = sd_bus_creds_get_pid(creds, ret_pid);
	return r;
}

struct arguments {
	const char *bus, *consoles;
	bool json;
};

static bool parse_arguments(int argc, char **argv, struct arguments *ret)
{
	static const struct option options[] = {
		{"bus", required_argument, NULL, 'b'},
		{"consoles", required_argument, NULL, 'c'},
		{"json", no_argument, NULL, 'j'},
		{},
	};
	struct arguments a = {};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 'b')
			a.bus = optarg;
		else if (c == 'c')
			a.consoles = optarg;
		else if (c == 'j')
			a.json = true;
		else
			return false;
	}
	*ret = a;
	return a.bus && a.consoles;
}

/* Measures, says and judges. The exit status. */
static int check(struct memctl *m, const struct arguments *a, pid_t memd_pid)
{
	_cleanup_json_ struct json_object *snapshot = NULL;
	_cleanup_free_ char *problems = NULL;
	size_t size;
	struct summary s = {.problems = open_memstream(&problems, &size)};
	struct error e = {};
	int r;

	if (!s.problems)
		return 1;
	r = cross_check(m, memd_pid, &s, &snapshot, &e);
	if (r < 0) {
		fprintf(stderr, "demo-check: %s: %s\n", e.text, strerror(-r));
		fclose(s.problems);
		return 1;
	}
	read_consoles(&s, a->consoles);
	judge(&s);
	fclose(s.problems);
	print_summary(a->json ? stderr : stdout, &s);
	fflush(stdout);
	fputs(problems, stderr);
	if (a->json)
		print_json(&s);
	return s.n_problems > 0;
}

int main(int argc, char **argv)
{
	struct memctl m = {};
	struct arguments a;
	pid_t memd_pid;
	int r;

	if (!parse_arguments(argc, argv, &a)) {
		fprintf(stderr, "usage: demo-check --bus ADDRESS --consoles DIR [--json]\n");
		return 2;
	}
	m.bus_name = a.bus;
	r = find_memd(&m, &memd_pid);
	if (r < 0) {
		fprintf(stderr, "demo-check: no memd on %s: %s\n", a.bus, strerror(-r));
		return 1;
	}
	r = check(&m, &a, memd_pid);
	sd_bus_flush_close_unref(m.bus);
	return r;
}
