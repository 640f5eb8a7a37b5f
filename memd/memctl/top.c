/*
 * memctl top: reads all figures once an interval and shows them, as a live screen on a terminal, as plain
 * lines or JSON objects elsewhere. Whatever ends it, the terminal is as it was.
 */
#include <langinfo.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-event.h>
#include <time.h>
#include <unistd.h>

#include "memd/base/clock.h"
#include "memd/memctl/client.h"
#include "memd/memctl/frame.h"
#include "memd/memctl/screen.h"

struct top {
	struct memctl *m;
	sd_event *event;
	struct style style;
	struct screen screen;
	bool live;
	struct json_object *snapshot; /* the last */
	uint64_t shown;
	enum memctl_exit code;
};

static void draw_screen(struct top *t)
{
	_cleanup_free_ char *text = NULL;
	unsigned columns, rows;
	size_t size;
	FILE *out;

	if (!t->snapshot)
		return;
	screen_size(&columns, &rows);
	out = open_memstream(&text, &size);
	if (!out)
		return;
	frame_draw(out, &t->style, t->snapshot, columns, rows);
	fclose(out);
	screen_show(text);
}

static void print_lines(struct top *t)
{
	struct json_object *guests = json_object_object_get(t->snapshot, "guests");
	time_t now = time(NULL);
	char clock[16];
	struct tm tm;

	strftime(clock, sizeof(clock), "%H:%M:%S", localtime_r(&now, &tm));
	frame_host_line(stdout, json_object_object_get(t->snapshot, "host"), clock);
	if (t->m->options & OPTION_VERBOSE)
		for (size_t i = 0; i < json_object_array_length(guests); i++)
			frame_guest_line(stdout, json_object_array_get_idx(guests, i), clock);
	fflush(stdout);
}

/* Reads the figures and shows them. Negative errno after saying why. */
static int refresh(struct top *t)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	struct json_object *snapshot = NULL;
	int r = client_snapshot(t->m, &e, &snapshot);

	if (r < 0) {
		screen_leave(&t->screen);
		t->code = client_report(t->m, NULL, r, &e);
		return r;
	}
	json_object_put(t->snapshot);
	t->snapshot = snapshot;
	if (t->m->json)
		memctl_print_json(snapshot);
	else if (t->live)
		draw_screen(t);
	else
		print_lines(t);
	t->shown++;
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t due_us, void *data)
{
	struct top *t = data;
	int r = sd_event_source_set_time_relative(source, t->m->interval_us);

	if (r >= 0)
		r = sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	if (r < 0)
		return r;
	if (refresh(t) < 0 || ferror(stdout) || (t->m->count > 0 && t->shown >= t->m->count))
		return sd_event_exit(t->event, 0);
	return 0;
}

static int on_end_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *data)
{
	struct top *t = data;

	return sd_event_exit(t->event, 0);
}

static int on_resize(sd_event_source *source, const struct signalfd_siginfo *info, void *data)
{
	draw_screen(data);
	return 0;
}

/* ^Z: the shell gets its screen back until it continues us. */
static int on_suspend(sd_event_source *source, const struct signalfd_siginfo *info, void *data)
{
	struct top *t = data;

	screen_leave(&t->screen);
	raise(SIGSTOP);
	screen_enter(&t->screen);
	draw_screen(t);
	return 0;
}

static int on_key(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct top *t = data;
	char key;

	if (read(fd, &key, 1) != 1)
		return sd_event_source_set_enabled(source, SD_EVENT_OFF);
	return key == 'q' ? sd_event_exit(t->event, 0) : 0;
}

static int add_signal(struct top *t, int number, sd_event_signal_handler_t handler)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, number);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	return sd_event_add_signal(t->event, NULL, number, handler, t);
}

static int add_sources(struct top *t)
{
	static const int end_signals[] = {SIGINT, SIGTERM, SIGHUP};
	int r = sd_event_add_time(t->event, NULL, CLOCK_MONOTONIC, 0, 0, on_timer, t);

	for (size_t i = 0; i < ARRAY_SIZE(end_signals) && r >= 0; i++)
		r = add_signal(t, end_signals[i], on_end_signal);
	if (r >= 0 && t->live)
		r = add_signal(t, SIGWINCH, on_resize);
	if (r >= 0 && t->live)
		r = add_signal(t, SIGTSTP, on_suspend);
	if (r >= 0 && t->live && isatty(STDIN_FILENO))
		r = sd_event_add_io(t->event, NULL, STDIN_FILENO, EPOLLIN, on_key, t);
	return r;
}

/* A screen needs a terminal that knows the sequences of screen.c. */
static bool can_go_live(const struct memctl *m)
{
	const char *term = getenv("TERM");

	return !m->json && !(m->options & OPTION_LINES) && isatty(STDOUT_FILENO) && term &&
	       strcmp(term, "dumb") != 0;
}

enum memctl_exit verb_top(struct memctl *m, int argc, char **argv)
{
	const char *no_colour = getenv("NO_COLOR");
	struct top t = {
		.m = m,
		.live = can_go_live(m),
		.style =
			{
				.colour = !(no_colour && *no_colour),
				.unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0,
			},
	};
	int r = sd_event_new(&t.event);

	if (r >= 0)
		r = add_sources(&t);
	if (r >= 0) {
		if (t.live)
			screen_enter(&t.screen);
		r = sd_event_loop(t.event);
		screen_leave(&t.screen);
	}
	sd_event_unref(t.event);
	json_object_put(t.snapshot);
	if (r < 0)
		return memctl_fail(m, MEMCTL_REFUSED, NULL, "event loop: %s", strerror(-r));
	return t.code;
}
