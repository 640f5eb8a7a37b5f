/*
 * The verb history: a guest's figures over time, from the file that memd hands out. The file is read
 * here, since memd has better things to do, and believed no more than its format says.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/history-file.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"
#include "memd/memctl/client.h"
#include "memd/memctl/plot.h"
#include "memd/memctl/draw.h"

#define INTERVAL_DEFAULT_S 60
#define COUNT_DEFAULT	   60
#define COUNT_MAX	   HISTORY_SECONDS

/* What is asked for. */
struct span {
	uint64_t now_s, step_s, count;
};

static uint64_t begin_of(const struct span *s)
{
	return u64_sub_or_zero(s->now_s / s->step_s + 1, s->count) * s->step_s;
}

/* Turns records into one for each interval that has any, in place. Returns how many. */
static size_t summarize(const struct span *s, struct history_record *records, size_t n)
{
	size_t n_out = 0;

	for (size_t i = 0, end; i < n; i = end) {
		uint64_t interval = records[i].time_s / s->step_s;
		struct history_record a;

		for (end = i + 1; end < n && records[end].time_s / s->step_s == interval;)
			end++;
		a = history_average(&records[i], end - i);
		a.time_s = (uint32_t)(interval * s->step_s);
		records[n_out++] = a;
	}
	return n_out;
}

static int open_history(struct memctl *m, const char *name, sd_bus_error *e)
{
	_cleanup_message_ sd_bus_message *reply = NULL;
	int fd, r;

	r = client_call(m, MEMD_PATH, MEMD_MANAGER, "OpenHistory", e, &reply, "s", name);
	if (r >= 0)
		r = sd_bus_message_read(reply, "h", &fd);
	if (r < 0)
		return r;
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 3); /* the message's goes with the message */
	return fd < 0 ? -errno : fd;
}

static uint64_t bytes(uint32_t kib)
{
	return (uint64_t)kib * KIB;
}

static void print_table(const struct history_record *records, size_t n)
{
	printf("%-19s %9s %9s %9s %8s %9s %9s %9s %8s %9s\n", "TIME", "COST", "TARGET", "IN USE",
		"+-", "SHARED", "SWAPPED", "BALLOON", "STALL", "REFAULTS");
	for (size_t i = 0; i < n; i++) {
		const struct history_record *r = &records[i];
		bool known = r->working_set_kib != HISTORY_UNKNOWN;
		time_t t = r->time_s;
		char when[32];
		struct tm tm;

		if (!localtime_r(&t, &tm) || !strftime(when, sizeof(when), "%F %T", &tm))
			continue;
		printf("%s %9s %9s %9s %8s %9s %9s %9s %7.2f%% %9s\n", when,
			DRAW_SIZE(bytes(r->resident_kib)), DRAW_SIZE(bytes(r->target_kib)),
			known ? DRAW_SIZE(bytes(r->working_set_kib)) : "-",
			known ? DRAW_SIZE(bytes(r->working_set_error_kib)) : "-",
			DRAW_SIZE(bytes(r->shared_kib)), DRAW_SIZE(bytes(r->swapped_kib)),
			DRAW_SIZE(bytes(r->balloon_kib)), r->stall_some_bp / 100.0,
			DRAW_SIZE(bytes(r->refault_kib)));
	}
}

static void add_bytes(struct json_object *object, const char *key, uint32_t kib)
{
	json_object_object_add(
		object, key, kib == HISTORY_UNKNOWN ? NULL : json_object_new_uint64(bytes(kib)));
}

static void print_json(const struct history_record *records, size_t n)
{
	_cleanup_json_ struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < n; i++) {
		const struct history_record *r = &records[i];
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "time", json_object_new_uint64(r->time_s));
		add_bytes(o, "configured_bytes", r->configured_kib);
		add_bytes(o, "target_bytes", r->target_kib);
		add_bytes(o, "resident_bytes", r->resident_kib);
		add_bytes(o, "private_bytes", r->private_kib);
		add_bytes(o, "shared_bytes", r->shared_kib);
		add_bytes(o, "swapped_bytes", r->swapped_kib);
		add_bytes(o, "hole_balloon_bytes", r->balloon_kib);
		add_bytes(o, "working_set_bytes", r->working_set_kib);
		add_bytes(o, "working_set_error_bytes", r->working_set_error_kib);
		add_bytes(o, "refault_bytes", r->refault_kib);
		json_object_object_add(
			o, "stall_some10_basis_points", json_object_new_uint64(r->stall_some_bp));
		json_object_object_add(
			o, "stall_full10_basis_points", json_object_new_uint64(r->stall_full_bp));
		json_object_array_add(array, o);
	}
	memctl_print_json(array);
}

static void put_mib(FILE *f, uint32_t kib)
{
	if (kib == HISTORY_UNKNOWN)
		fputs(" NaN", f);
	else
		fprintf(f, " %.3f", kib / 1024.0);
}

static void put_data(FILE *f, const struct history_record *records, size_t n)
{
	fputs("$history << END\n", f);
	for (size_t i = 0; i < n; i++) {
		const struct history_record *r = &records[i];
		struct tm tm = {0};
		time_t t = r->time_s;

		localtime_r(&t, &tm); /* gnuplot knows no time zones: it is given local seconds */
		fprintf(f, "%" PRId64, (int64_t)t + tm.tm_gmtoff);
		put_mib(f, r->resident_kib);
		put_mib(f, r->target_kib);
		put_mib(f, r->working_set_kib);
		put_mib(f, r->swapped_kib);
		put_mib(f, r->shared_kib);
		put_mib(f, r->balloon_kib);
		fprintf(f, " %.2f", r->stall_some_bp / 100.0);
		put_mib(f, r->refault_kib);
		fputc('\n', f);
	}
	fputs("END\n", f);
}

static void put_script(FILE *f, const char *guest, const char *path, const char *terminal,
	const struct history_record *records, size_t n)
{
	put_data(f, records, n);
	fprintf(f, "set terminal %s size 1200,800 background rgb 'white'\nset output ", terminal);
	plot_put_text(f, path);
	fputs("\nset xdata time\nset timefmt '%s'\nset format x \"%d.%m.\\n%H:%M:%S\"\n"
	      "set grid\nset key outside right top noenhanced\nset lmargin 10\nset rmargin 22\n"
	      "set multiplot layout 2,1 title ",
		f);
	plot_put_text(f, guest);
	fputs(" noenhanced\nset ylabel 'MiB'\nset yrange [0:1<*]\n"
	      "plot $history using 1:3 with steps lw 2 title 'target', "
	      "'' using 1:2 with lines lw 2 title 'cost', "
	      "'' using 1:4 with lines lw 2 title 'in use', "
	      "'' using 1:5 with lines title 'swapped', "
	      "'' using 1:6 with lines title 'shared', "
	      "'' using 1:7 with lines title 'balloon'\n"
	      "set ylabel 'stall, % of time'\nset y2label 'MiB'\nset y2tics\nset y2range [0:1<*]\n"
	      "plot $history using 1:8 with lines lw 2 title 'waited', "
	      "'' using 1:9 axes x1y2 with lines title 'came back'\n"
	      "unset multiplot\n",
		f);
}

static enum memctl_exit plot(
	struct memctl *m, const char *guest, const struct history_record *records, size_t n)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *script = open_memstream(&text, &size);
	struct error e = {0};
	int r = -ENOMEM;

	if (script) {
		put_script(script, guest, m->plot_path, plot_terminal(m->plot_path), records, n);
		if (fclose(script) == 0)
			r = plot_draw(text, size, &e);
	}
	if (r < 0)
		return memctl_fail(m, MEMCTL_REFUSED, NULL, "%s: %s", m->plot_path,
			e.text[0] ? e.text : strerror(-r));
	return MEMCTL_OK;
}

static enum memctl_exit show(
	struct memctl *m, const char *guest, struct history_record *records, size_t n)
{
	if (m->options & OPTION_PLOT)
		return plot(m, guest, records, n);
	if (m->json)
		print_json(records, n);
	else
		print_table(records, n);
	return MEMCTL_OK;
}

enum memctl_exit verb_history(struct memctl *m, int argc, char **argv)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_free_ struct history_record *records = NULL;
	struct span span = {.now_s = clock_realtime_us() / US_PER_S};
	_cleanup_close_ int fd = -1;
	struct error why = {0};
	size_t n;
	int r;

	span.step_s = m->options & OPTION_INTERVAL ? m->interval_us / US_PER_S : INTERVAL_DEFAULT_S;
	span.count = m->options & OPTION_COUNT ? m->count : COUNT_DEFAULT;
	if (span.step_s == 0 || span.count == 0 || span.count > COUNT_MAX ||
		span.step_s > span.now_s / span.count)
		return memctl_fail(m, MEMCTL_USAGE, NULL,
			"--interval is at least 1s, --count 1 to %d, and together no more than the "
			"past",
			COUNT_MAX);
	if (m->options & OPTION_PLOT && !plot_terminal(m->plot_path))
		return memctl_fail(m, MEMCTL_USAGE, NULL,
			"--plot: '%s' ends neither in .svg nor in .png", m->plot_path);
	fd = open_history(m, argv[0], &e);
	if (fd < 0)
		return client_report(m, argv[0], fd, &e);
	r = history_file_read(fd, begin_of(&span), span.now_s, (uint32_t)u64_min(span.step_s, 60),
		span.now_s, &records, &n, &why);
	if (r < 0)
		return memctl_fail(m, MEMCTL_REFUSED, NULL, "guest %s: %s", argv[0],
			why.text[0] ? why.text : strerror(-r));
	n = summarize(&span, records, n);
	if (n == 0)
		return memctl_fail(m, MEMCTL_REFUSED, NULL,
			"there is no history of guest %s in that time", argv[0]);
	return show(m, argv[0], records, n);
}
