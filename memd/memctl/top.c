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
	struct json_object *snapshot; /* the last; guests in the order that is shown */
	struct sparks *sparks;
	size_t order; /* of `orders` */
	bool reversed;
	char selected[64]; /* by name: the order changes under it */
	char hint[256]; /* what the last key did; "": the keys */
	uint64_t shown;
	enum memctl_exit code;
};

static const struct order {
	const char *title;
	const char *key; /* NULL: by name */
} orders[] = {
	{"name", NULL},
	{"cost", "resident_bytes"},
	{"target", "target_bytes"},
	{"working set", "working_set_bytes"},
	{"shared", "shared_bytes"},
	{"swapped", "swapped_bytes"},
};

static const char *sort_key; /* of the sort that runs: json-c hands no context on */

static int compare_guests(const void *a, const void *b)
{
	struct json_object *x = *(struct json_object *const *)a;
	struct json_object *y = *(struct json_object *const *)b;

	/* the most first */
	if (sort_key && figure_u64(x, sort_key) != figure_u64(y, sort_key))
		return figure_u64(x, sort_key) < figure_u64(y, sort_key) ? 1 : -1;
	return strcmp(figure_text(x, "name"), figure_text(y, "name"));
}

static int compare_reversed(const void *a, const void *b)
{
	return compare_guests(b, a);
}

static struct json_object *guests_of(const struct top *t)
{
	return json_object_object_get(t->snapshot, "guests");
}

static void sort_guests(struct top *t)
{
	sort_key = orders[t->order].key;
	json_object_array_sort(guests_of(t), t->reversed ? compare_reversed : compare_guests);
}

/* The index of the selected guest; the first one when that has gone. */
static size_t selected_index(const struct top *t)
{
	for (size_t i = 0; i < json_object_array_length(guests_of(t)); i++)
		if (strcmp(figure_text(json_object_array_get_idx(guests_of(t), i), "name"),
			    t->selected) == 0)
			return i;
	return 0;
}

static void select_guest(struct top *t, size_t i)
{
	if (i < json_object_array_length(guests_of(t)))
		snprintf(t->selected, sizeof(t->selected), "%s",
			figure_text(json_object_array_get_idx(guests_of(t), i), "name"));
}

static void draw_screen(struct top *t)
{
	struct frame_view view = {.sparks = t->sparks};
	char keys[160];

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
	snprintf(keys, sizeof(keys),
		"by %s%s   s order  r turn round  up/down guest  Enter show  e explain  p pause or "
		"resume  q quit",
		orders[t->order].title, t->reversed ? ", reversed" : "");
	view.hint = t->hint[0] ? t->hint : keys;
	view.selected = selected_index(t);
	frame_draw(out, &t->style, t->snapshot, t->screen.has_keys ? &view : NULL, columns, rows);
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
	if (t->live && t->sparks) {
		sparks_note(t->sparks, guests_of(t));
		sort_guests(t);
		select_guest(t, selected_index(t));
	}
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

/* A verb's own output, on the screen that was there before; Enter comes back. */
static void run_verb_aside(
	struct top *t, enum memctl_exit (*verb)(struct memctl *m, int argc, char **argv))
{
	char *argv[] = {t->selected, NULL};
	char key;

	screen_leave(&t->screen);
	(void)verb(t->m, 1, argv);
	fputs("\n-- Enter goes back --\n", stdout);
	fflush(stdout);
	while (read(STDIN_FILENO, &key, 1) == 1 && key != '\n')
		;
	screen_enter(&t->screen);
}

static void pause_or_resume(struct top *t)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	struct json_object *guest = json_object_array_get_idx(guests_of(t), selected_index(t));
	bool paused = strcmp(figure_text(guest, "state"), "paused") == 0;
	_cleanup_free_ char *path = NULL;
	int r = client_guest_path(t->m, t->selected, &e, &path);

	if (r >= 0)
		r = client_call(t->m, path, MEMD_GUEST, paused ? "Resume" : "Pause", &e, NULL, "");
	if (r < 0)
		snprintf(t->hint, sizeof(t->hint), "%s: %s", t->selected,
			e.message ? e.message : strerror(-r));
	else
		snprintf(t->hint, sizeof(t->hint), "%s: %s", t->selected,
			paused ? "goes on" : "paused; p lets it go on");
}

static void move_selection(struct top *t, int by)
{
	size_t i = selected_index(t);

	if (by > 0 || i > 0)
		select_guest(t, by > 0 ? i + 1 : i - 1);
}

static bool has_guests(const struct top *t)
{
	return t->snapshot && json_object_array_length(guests_of(t)) > 0;
}

static void obey(struct top *t, char key)
{
	t->hint[0] = '\0';
	if (key == 's')
		t->order = (t->order + 1) % ARRAY_SIZE(orders);
	else if (key == 'r')
		t->reversed = !t->reversed;
	else if ((key == 'j' || key == 'k') && has_guests(t))
		move_selection(t, key == 'j' ? 1 : -1);
	else if (key == 'p' && has_guests(t))
		pause_or_resume(t);
	else if ((key == 'e' || key == '\n') && has_guests(t))
		run_verb_aside(t, key == 'e' ? verb_explain : verb_show);
	if (t->snapshot)
		sort_guests(t);
}

static int on_key(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct top *t = data;
	char bytes[32];
	ssize_t n = read(fd, bytes, sizeof(bytes));

	if (n <= 0)
		return sd_event_source_set_enabled(source, SD_EVENT_OFF);
	for (ssize_t i = 0; i < n; i++) {
		char key = bytes[i];

		if (key == 'q')
			return sd_event_exit(t->event, 0);
		/* An arrow is ESC [ A or B. */
		if (key == '\033' && i + 2 < n && bytes[i + 1] == '[') {
			key = bytes[i + 2] == 'A' ? 'k' : bytes[i + 2] == 'B' ? 'j' : ' ';
			i += 2;
		}
		obey(t, key);
	}
	/* With what the key has changed. */
	if (refresh(t) < 0)
		return sd_event_exit(t->event, 0);
	return 0;
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

	t.sparks = sparks_new();
	if (!t.sparks)
		r = -ENOMEM;

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
	sparks_free(t.sparks);
	if (r < 0)
		return memctl_fail(m, MEMCTL_REFUSED, NULL, "event loop: %s", strerror(-r));
	return t.code;
}
