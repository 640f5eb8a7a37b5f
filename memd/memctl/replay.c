/* The verbs replay and explain: what memd-replay and memd say, for people. */
#include <stdio.h>
#include <string.h>
#include <sys/param.h>
#include <time.h>

#include "memd/base/clock.h"
#include "memd/base/units.h"
#include "memd/memctl/draw.h"
#include "memd/memctl/journals.h"
#include "memd/memctl/plot.h"

/* Curves that can still be told apart. */
#define PLOT_GUESTS_MAX 12

/* The ticks of one guest, for the picture. */
struct track {
	char *name;
	struct track_point {
		double seconds;
		uint64_t recorded_bytes, replayed_bytes;
	} * points;
	size_t n;
};

struct tracks {
	struct track guests[PLOT_GUESTS_MAX];
	size_t n;
	bool some_left_out;
};

static void tracks_done(struct tracks *t)
{
	for (size_t i = 0; i < t->n; i++) {
		free(t->guests[i].name);
		free(t->guests[i].points);
	}
}

static struct track *find_track(struct tracks *t, const char *name)
{
	for (size_t i = 0; i < t->n; i++)
		if (strcmp(t->guests[i].name, name) == 0)
			return &t->guests[i];
	if (t->n == PLOT_GUESTS_MAX) {
		t->some_left_out = true;
		return NULL;
	}
	t->guests[t->n] = (struct track){.name = strdup(name)};
	return t->guests[t->n].name ? &t->guests[t->n++] : NULL;
}

static void add_point(struct tracks *t, double seconds, struct json_object *guest)
{
	struct json_object *recorded = json_object_object_get(guest, "recorded");
	struct json_object *replayed = json_object_object_get(guest, "replayed");
	struct track *track = find_track(t, figure_text(guest, "name"));

	/* room doubles: at each power of two */
	if (!track || ((track->n & (track->n - 1)) == 0 &&
			      !GROW_ARRAY(track->points, track->n ? 2 * track->n : 1)))
		return;
	track->points[track->n++] = (struct track_point){seconds,
		figure_u64(recorded, "target_bytes"), figure_u64(replayed, "target_bytes")};
}

static void add_tick(struct tracks *t, struct json_object *tick)
{
	struct json_object *guests = json_object_object_get(tick, "guests");
	time_t seconds = (time_t)(figure_u64(tick, "realtime_usec") / US_PER_S);
	struct tm local;

	/* gnuplot knows no time zones: it is given local time as if it were universal */
	localtime_r(&seconds, &local);
	for (size_t i = 0; guests && i < json_object_array_length(guests); i++)
		add_point(t, (double)seconds + (double)local.tm_gmtoff,
			json_object_array_get_idx(guests, i));
}

static enum memctl_exit draw(const struct memctl *m, const struct tracks *t, const char *policy)
{
	_cleanup_(plot_done) struct plot plot = {0};
	struct error e = {0};
	char title[160];
	int r;

	snprintf(title, sizeof(title),
		"targets: as recorded (dashed), and as %.40s would have set them%s", policy,
		t->some_left_out ? " (the first 12 guests)" : "");
	r = plot_begin(&plot, m->plot_path, title, &e);
	for (size_t i = 0; r == 0 && i < 2 * t->n; i++) {
		const struct track *track = &t->guests[i / 2];
		bool recorded = i % 2 == 0;

		plot_curve(&plot, recorded ? "" : track->name, (unsigned)(i / 2),
			recorded ? PLOT_DASHED : PLOT_SOLID);
		for (size_t j = 0; j < track->n; j++)
			plot_point(&plot, track->points[j].seconds,
				recorded ? track->points[j].recorded_bytes
					 : track->points[j].replayed_bytes);
	}
	if (r == 0)
		r = plot_end(&plot, &e);
	if (r < 0)
		return memctl_fail(m, MEMCTL_REFUSED, NULL, "%s: %s", m->plot_path,
			e.text[0] ? e.text : strerror(-r));
	return MEMCTL_OK;
}

static void print_time(const char *what, uint64_t us)
{
	time_t seconds = (time_t)(us / US_PER_S);
	struct tm local;
	char text[40];

	localtime_r(&seconds, &local);
	strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &local);
	printf("%s %s", what, text);
}

static void print_summary(struct json_object *s)
{
	struct json_object *guests = json_object_object_get(s, "guests");
	int name = (int)strlen("GUEST");

	printf("policy %s over %s ticks", figure_text(s, "policy"), figure_text(s, "ticks"));
	print_time(", from", figure_u64(s, "first_usec"));
	print_time(" to", figure_u64(s, "last_usec"));
	printf("\n%s of %s targets would have been others", figure_text(s, "differ"),
		figure_text(s, "decisions"));
	if (figure_u64(s, "damaged_bytes") > 0)
		printf("; %s of the journal cannot be read",
			UNITS_BYTES(figure_u64(s, "damaged_bytes")));
	puts("\n");
	for (size_t i = 0; guests && i < json_object_array_length(guests); i++)
		name = MAX(name,
			(int)strlen(figure_text(json_object_array_get_idx(guests, i), "name")));
	printf("%-*s %7s  %17s  %17s %11s\n%-*s %7s %8s %9s %8s %9s %11s\n", name, "", "",
		"MEAN TARGET", "LAST TARGET", "LARGEST", name, "GUEST", "TICKS", "WAS", "WOULD BE",
		"WAS", "WOULD BE", "DIFFERENCE");
	for (size_t i = 0; guests && i < json_object_array_length(guests); i++) {
		struct json_object *g = json_object_array_get_idx(guests, i);

		printf("%-*s %7s %8s %9s %8s %9s %11s\n", name, figure_text(g, "name"),
			figure_text(g, "ticks"), DRAW_SIZE(figure_u64(g, "recorded_mean_bytes")),
			DRAW_SIZE(figure_u64(g, "replayed_mean_bytes")),
			DRAW_SIZE(figure_u64(g, "recorded_last_bytes")),
			DRAW_SIZE(figure_u64(g, "replayed_last_bytes")),
			DRAW_SIZE(figure_u64(g, "largest_difference_bytes")));
	}
}

/* Takes one line; of the summary the policy's name goes to *ret_policy, to be freed. */
static void take_line(const struct memctl *m, struct json_object *line, const char *raw,
	struct tracks *tracks, char **ret_policy)
{
	bool summary = strcmp(figure_text(line, "type"), "summary") == 0;

	if (m->json)
		puts(raw);
	if (!summary) {
		add_tick(tracks, line);
		return;
	}
	if (!m->json)
		print_summary(line);
	free(*ret_policy);
	*ret_policy = strdup(figure_text(line, "policy"));
}

enum memctl_exit verb_replay(struct memctl *m, int argc, char **argv)
{
	_cleanup_(tracks_done) struct tracks tracks = {0};
	_cleanup_free_ char *policy = NULL;
	struct replay_lines lines;
	struct json_object *line;
	const char *raw;
	char *arguments[6];
	enum memctl_exit code;
	size_t n = 0;

	if ((m->options & OPTION_PLOT) && !plot_terminal(m->plot_path))
		return memctl_fail(m, MEMCTL_USAGE, NULL,
			"--plot: '%s' ends neither in .svg nor in .png", m->plot_path);
	if (m->options & OPTION_POLICY) {
		arguments[n++] = (char *)(uintptr_t) "--policy";
		arguments[n++] = (char *)(uintptr_t)m->policy;
	}
	if (m->options & OPTION_CONFIG) {
		arguments[n++] = (char *)(uintptr_t) "--config";
		arguments[n++] = (char *)(uintptr_t)m->config_path;
	}
	if (m->json || (m->options & OPTION_PLOT))
		arguments[n++] = (char *)(uintptr_t) "--ticks";
	code = journals_replay(m, arguments, n, argv, (size_t)argc, &lines);
	if (code != MEMCTL_OK)
		return code;
	while ((line = journals_next(&lines, &raw))) {
		take_line(m, line, raw, &tracks, &policy);
		json_object_put(line);
	}
	code = journals_end(&lines);
	if (code == MEMCTL_OK && (m->options & OPTION_PLOT))
		code = draw(m, &tracks, policy ? policy : "");
	return code;
}

/* The verb explain. */

static int read_sentences(sd_bus_message *reply, struct json_object *sentences)
{
	const char *sentence;
	int r = sd_bus_message_enter_container(reply, 'a', "s");

	while (r >= 0 && (r = sd_bus_message_read(reply, "s", &sentence)) > 0)
		json_object_array_add(sentences, json_object_new_string(sentence));
	return r < 0 ? r : 0;
}

/* Tries changes on the journal; without one there is nothing to try them on. */
static void read_what_if(struct memctl *m, const char *guest, struct json_object *changes)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_json_ struct json_object *host = NULL;
	char *arguments[] = {(char *)(uintptr_t) "--what-if", (char *)(uintptr_t)guest};
	struct replay_lines lines;
	struct json_object *line;

	if (client_properties(m, MEMD_PATH, MEMD_MANAGER, &e, &host) < 0 ||
		*figure_text(host, "journal_path") != '/')
		return;
	if (journals_replay(m, arguments, ARRAY_SIZE(arguments), NULL, 0, &lines) != MEMCTL_OK)
		return;
	while ((line = journals_next(&lines, NULL)))
		json_object_array_add(changes, line);
	(void)journals_end(&lines);
}

static void print_explanation(struct json_object *sentences, struct json_object *changes)
{
	for (size_t i = 0; i < json_object_array_length(sentences); i++)
		puts(json_object_get_string(json_object_array_get_idx(sentences, i)));
	if (json_object_array_length(changes) > 0)
		puts("\nThe policy would propose");
	for (size_t i = 0; i < json_object_array_length(changes); i++) {
		struct json_object *c = json_object_array_get_idx(changes, i);
		uint64_t now = figure_u64(c, "now_bytes"), then = figure_u64(c, "then_bytes");

		if (now == then)
			printf("  %-42s the same, %s\n", figure_text(c, "what"), UNITS_BYTES(then));
		else
			printf("  %-42s %s instead of %s\n", figure_text(c, "what"),
				UNITS_BYTES(then), UNITS_BYTES(now));
	}
}

enum memctl_exit verb_explain(struct memctl *m, int argc, char **argv)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_message_ sd_bus_message *reply = NULL;
	_cleanup_json_ struct json_object *object = json_object_new_object();
	struct json_object *sentences = json_object_new_array(), *changes = json_object_new_array();
	_cleanup_free_ char *path = NULL;
	int r;

	json_object_object_add(object, "guest", json_object_new_string(argv[0]));
	json_object_object_add(object, "sentences", sentences);
	json_object_object_add(object, "what_if", changes);
	r = client_guest_path(m, argv[0], &e, &path);
	if (r >= 0)
		r = client_call(m, path, MEMD_GUEST, "Explain", &e, &reply, "");
	if (r >= 0)
		r = read_sentences(reply, sentences);
	if (r < 0)
		return client_report(m, argv[0], r, &e);
	read_what_if(m, argv[0], changes);
	if (m->json)
		memctl_print_json(object);
	else
		print_explanation(sentences, changes);
	return MEMCTL_OK;
}
