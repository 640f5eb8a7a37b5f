/* See frame.h. */
#include "memd/memctl/frame.h"

#include <string.h>
#include <sys/param.h>

#include "memd/memctl/client.h"

/* Columns of a guest's line before its bar: name, state, four sizes, blanks. */
#define NAME_COLUMNS_MAX    24
#define STATE_COLUMNS	    11
#define SIZE_COLUMNS	    7
#define BAR_COLUMNS_MIN	    8
#define SPARKS_FROM_COLUMNS 110
#define HINT_FROM_ROWS	    4
/* Lines above the guests, and the one below. */
#define HEADER_ROWS	    8
#define FOOTER_ROWS	    1

void frame_host_bar(FILE *out, const struct style *style, struct json_object *host, unsigned cells)
{
	const struct segment segments[] = {
		{figure_u64(host, "guest_private_bytes"), PAINT_PRIVATE},
		{figure_u64(host, "pool_bytes"), PAINT_SHARED},
		{figure_u64(host, "swap_occupied_bytes"), PAINT_SWAP_RAM},
		{figure_u64(host, "overhead_bytes"), PAINT_OVERHEAD},
		{figure_u64(host, "saved_sharing_bytes"), PAINT_SAVED_SHARING},
		{figure_u64(host, "saved_zero_bytes"), PAINT_ZERO},
		{figure_u64(host, "saved_balloon_bytes"), PAINT_BALLOON},
		{figure_u64(host, "saved_paging_bytes"), PAINT_SWAPPED},
	};
	uint64_t budget_bytes = figure_u64(host, "budget_bytes");
	uint64_t full_bytes =
		figure_u64(host, "configured_bytes") + figure_u64(host, "overhead_bytes");
	uint64_t sum_bytes = 0;

	for (size_t i = 0; i < ARRAY_SIZE(segments); i++)
		sum_bytes += segments[i].bytes;
	full_bytes = MAX(MAX(full_bytes, sum_bytes), budget_bytes);
	draw_bar(out, style, segments, ARRAY_SIZE(segments), full_bytes, budget_bytes, cells);
}

void frame_guest_bar(
	FILE *out, const struct style *style, struct json_object *guest, unsigned cells)
{
	const struct segment segments[] = {
		{figure_u64(guest, "private_bytes"), PAINT_PRIVATE},
		{figure_u64(guest, "shared_bytes"), PAINT_SHARED},
		{figure_u64(guest, "swapped_bytes"), PAINT_SWAPPED},
		{figure_u64(guest, "hole_balloon_bytes"), PAINT_BALLOON},
		{figure_u64(guest, "hole_reported_bytes") + figure_u64(guest, "hole_hinted_bytes"),
			PAINT_REPORTED},
		{figure_u64(guest, "hole_zero_bytes"), PAINT_ZERO},
		{figure_u64(guest, "hole_untouched_bytes"), PAINT_UNTOUCHED},
	};

	draw_bar(out, style, segments, ARRAY_SIZE(segments), figure_u64(guest, "configured_bytes"),
		figure_u64(guest, "target_bytes"), cells);
}

static enum emphasis emphasis_of_host_state(const char *state)
{
	if (strcmp(state, "high") == 0)
		return EMPHASIS_GOOD;
	if (strcmp(state, "low") == 0)
		return EMPHASIS_BAD;
	return EMPHASIS_WARN;
}

static unsigned percent(uint64_t part, uint64_t whole)
{
	return whole == 0 ? 0 : (unsigned)((100.0 * (double)part) / (double)whole + 0.5);
}

static double times(uint64_t part, uint64_t whole)
{
	return whole == 0 ? 0 : (double)part / (double)whole;
}

static uint64_t saved_bytes(struct json_object *object)
{
	return figure_u64(object, "saved_sharing_bytes") + figure_u64(object, "saved_zero_bytes") +
	       figure_u64(object, "saved_balloon_bytes") + figure_u64(object, "saved_paging_bytes");
}

static void legend_figure(FILE *out, const struct style *style, enum paint paint, const char *name,
	struct json_object *host, const char *key)
{
	draw_legend(out, style, paint, name);
	fprintf(out, " %-6s", DRAW_SIZE(figure_u64(host, key)));
}

static void draw_host(
	FILE *out, const struct style *style, struct json_object *host, unsigned columns)
{
	uint64_t budget_bytes = figure_u64(host, "budget_bytes");
	uint64_t configured_bytes = figure_u64(host, "configured_bytes");
	const char *state = figure_text(host, "host_state");
	char headline[160];

	snprintf(headline, sizeof(headline), "memd %s", figure_text(host, "version"));
	draw_text(out, style, EMPHASIS_BOLD, headline);
	fprintf(out, "  %s guests, %s configured: ", figure_text(host, "n_guests"),
		DRAW_SIZE(configured_bytes));
	snprintf(headline, sizeof(headline), "%.1f x the budget",
		times(configured_bytes, budget_bytes));
	draw_text(out, style, EMPHASIS_BOLD, headline);
	fputs("   host ", out);
	draw_text(out, style, emphasis_of_host_state(state), state);
	fprintf(out, "   policy %s\n", figure_text(host, "policy"));

	fprintf(out, "used %s of %s budget (%u%%)   peak %s   saved %s\n\n",
		DRAW_SIZE(figure_u64(host, "used_bytes")), DRAW_SIZE(budget_bytes),
		percent(figure_u64(host, "used_bytes"), budget_bytes),
		DRAW_SIZE(figure_u64(host, "peak_used_bytes")), DRAW_SIZE(saved_bytes(host)));

	frame_host_bar(out, style, host, columns);
	fputs("\nin use  ", out);
	legend_figure(out, style, PAINT_PRIVATE, "private ", host, "guest_private_bytes");
	legend_figure(out, style, PAINT_SHARED, "pool      ", host, "pool_bytes");
	legend_figure(out, style, PAINT_SWAP_RAM, "zram    ", host, "swap_occupied_bytes");
	legend_figure(out, style, PAINT_OVERHEAD, "overhead", host, "overhead_bytes");
	draw_marker(out, style);
	fputs(" budget", out);
	fputs("\nsaved   ", out);
	legend_figure(out, style, PAINT_SAVED_SHARING, "sharing ", host, "saved_sharing_bytes");
	legend_figure(out, style, PAINT_ZERO, "zero pages", host, "saved_zero_bytes");
	legend_figure(out, style, PAINT_BALLOON, "balloon ", host, "saved_balloon_bytes");
	legend_figure(out, style, PAINT_SWAPPED, "paging  ", host, "saved_paging_bytes");
	fputs("\n\n", out);
}

static unsigned name_columns(struct json_object *guests)
{
	size_t widest = strlen("GUEST");

	for (size_t i = 0; i < json_object_array_length(guests); i++) {
		struct json_object *guest = json_object_array_get_idx(guests, i);

		widest = MAX(widest, strlen(figure_text(guest, "name")));
	}
	return (unsigned)MIN(widest, (size_t)NAME_COLUMNS_MAX);
}

static unsigned bar_columns(unsigned columns, unsigned name, unsigned spark)
{
	unsigned fixed = name + 1 + STATE_COLUMNS + 3 * SIZE_COLUMNS + 2 + spark;

	return columns > fixed + BAR_COLUMNS_MIN ? columns - fixed : BAR_COLUMNS_MIN;
}

/* A screen that is wide enough shows them beside the bars. */
static unsigned spark_columns(const struct frame_view *view, unsigned columns)
{
	return view && columns >= SPARKS_FROM_COLUMNS ? SPARK_READINGS + 1 : 0;
}

static void draw_guest(FILE *out, const struct style *style, struct json_object *guest,
	const struct frame_view *view, unsigned name, unsigned spark, unsigned bar)
{
	const char *state = figure_text(guest, "state");
	char padded[32];

	fprintf(out, "%-*.*s ", (int)name, (int)name, figure_text(guest, "name"));
	snprintf(padded, sizeof(padded), "%-*.*s", STATE_COLUMNS, STATE_COLUMNS, state);
	if (strcmp(state, "running") == 0)
		fputs(padded, out);
	else
		draw_text(out, style, strcmp(state, "failed") == 0 ? EMPHASIS_BAD : EMPHASIS_WARN,
			padded);
	fprintf(out, "%*s%*s", SIZE_COLUMNS, DRAW_SIZE(figure_u64(guest, "configured_bytes")),
		SIZE_COLUMNS, DRAW_SIZE(figure_u64(guest, "resident_bytes")));
	fprintf(out, "%*s%c ", SIZE_COLUMNS, DRAW_SIZE(figure_u64(guest, "target_bytes")),
		json_object_get_boolean(json_object_object_get(guest, "target_fixed")) ? '*' : ' ');
	if (spark) {
		sparks_draw(out, style, view->sparks, figure_text(guest, "name"));
		fputc(' ', out);
	}
	frame_guest_bar(out, style, guest, bar);
}

static void draw_guest_heading(FILE *out, const struct style *style, unsigned name, unsigned spark)
{
	char heading[160];

	snprintf(heading, sizeof(heading), "%-*s %-*s%*s%*s%*s  %-*s", (int)name, "GUEST",
		STATE_COLUMNS, "STATE", SIZE_COLUMNS, "SIZE", SIZE_COLUMNS, "COST", SIZE_COLUMNS,
		"TARGET", (int)spark, spark ? "USE OF TARGET" : "");
	draw_text(out, style, EMPHASIS_BOLD, heading);
	draw_legend(out, style, PAINT_PRIVATE, "private ");
	draw_legend(out, style, PAINT_SHARED, "shared ");
	draw_legend(out, style, PAINT_SWAPPED, "swapped ");
	draw_legend(out, style, PAINT_BALLOON, "balloon ");
	draw_legend(out, style, PAINT_REPORTED, "freed ");
	draw_legend(out, style, PAINT_ZERO, "zero ");
	draw_legend(out, style, PAINT_UNTOUCHED, "untouched ");
	draw_marker(out, style);
	fputs(" target", out);
}

/* The part of the list that holds the selected guest. */
static size_t first_shown(size_t n, size_t rows, const struct frame_view *view)
{
	if (!view || view->selected < rows || rows == 0)
		return 0;
	return MIN(view->selected - rows + 1, n - rows);
}

static void draw_guests(FILE *out, const struct style *style, struct json_object *guests,
	const struct frame_view *view, unsigned columns, unsigned rows)
{
	size_t n = json_object_array_length(guests);
	unsigned name = name_columns(guests), spark = spark_columns(view, columns);
	unsigned bar = bar_columns(columns, name, spark + (view ? 1 : 0)); /* and the '>' */
	size_t shown = MIN(n, (size_t)rows), first = first_shown(n, rows, view);

	if (view)
		fputc(' ', out);
	draw_guest_heading(out, style, name, spark);
	for (size_t i = first; i < first + shown; i++) {
		fputs(!view ? "\n" : view->selected == i ? "\n>" : "\n ", out);
		draw_guest(
			out, style, json_object_array_get_idx(guests, i), view, name, spark, bar);
	}
	if (shown < n)
		fprintf(out, "\nand %zu more: a taller window, or memctl list", n - shown);
	else if (n == 0)
		fputs("\nno guest yet: memctl start NAME", out);
}

void frame_draw(FILE *out, const struct style *style, struct json_object *snapshot,
	const struct frame_view *view, unsigned columns, unsigned rows)
{
	struct json_object *host = json_object_object_get(snapshot, "host");
	struct json_object *guests = json_object_object_get(snapshot, "guests");
	unsigned guest_rows =
		rows > HEADER_ROWS + FOOTER_ROWS ? rows - HEADER_ROWS - FOOTER_ROWS : 0;
	_cleanup_free_ char *text = NULL;
	char *line, *rest;
	size_t size;
	FILE *whole = open_memstream(&text, &size);

	if (!whole)
		return;
	draw_host(whole, style, host, columns);
	/* On a small screen the guests are worth more than the list of keys. */
	if (guest_rows < HINT_FROM_ROWS)
		view = NULL;
	if (view)
		guest_rows--;
	draw_guests(whole, style, guests, view, columns, guest_rows);
	if (view)
		fprintf(whole, "\n%s", view->hint);
	fclose(whole);
	rest = text;
	for (unsigned row = 0; row < rows && (line = strsep(&rest, "\n")); row++) {
		if (row > 0)
			fputc('\n', out);
		draw_clipped(out, line, columns);
	}
}

void frame_host_line(FILE *out, struct json_object *host, const char *clock)
{
	uint64_t budget_bytes = figure_u64(host, "budget_bytes");

	fprintf(out,
		"%s host=%s guests=%s configured=%s budget=%s used=%s (%u%%) private=%s pool=%s "
		"zram=%s "
		"overhead=%s saved: sharing=%s zero=%s balloon=%s paging=%s\n",
		clock, figure_text(host, "host_state"), figure_text(host, "n_guests"),
		DRAW_SIZE(figure_u64(host, "configured_bytes")), DRAW_SIZE(budget_bytes),
		DRAW_SIZE(figure_u64(host, "used_bytes")),
		percent(figure_u64(host, "used_bytes"), budget_bytes),
		DRAW_SIZE(figure_u64(host, "guest_private_bytes")),
		DRAW_SIZE(figure_u64(host, "pool_bytes")),
		DRAW_SIZE(figure_u64(host, "swap_occupied_bytes")),
		DRAW_SIZE(figure_u64(host, "overhead_bytes")),
		DRAW_SIZE(figure_u64(host, "saved_sharing_bytes")),
		DRAW_SIZE(figure_u64(host, "saved_zero_bytes")),
		DRAW_SIZE(figure_u64(host, "saved_balloon_bytes")),
		DRAW_SIZE(figure_u64(host, "saved_paging_bytes")));
}

void frame_guest_line(FILE *out, struct json_object *guest, const char *clock)
{
	uint64_t hole_bytes =
		figure_u64(guest, "hole_untouched_bytes") + figure_u64(guest, "hole_zero_bytes") +
		figure_u64(guest, "hole_balloon_bytes") + figure_u64(guest, "hole_reported_bytes") +
		figure_u64(guest, "hole_hinted_bytes");

	fprintf(out,
		"%s   %s %s size=%s cost=%s target=%s private=%s shared=%s swapped=%s holes=%s\n",
		clock, figure_text(guest, "name"), figure_text(guest, "state"),
		DRAW_SIZE(figure_u64(guest, "configured_bytes")),
		DRAW_SIZE(figure_u64(guest, "resident_bytes")),
		DRAW_SIZE(figure_u64(guest, "target_bytes")),
		DRAW_SIZE(figure_u64(guest, "private_bytes")),
		DRAW_SIZE(figure_u64(guest, "shared_bytes")),
		DRAW_SIZE(figure_u64(guest, "swapped_bytes")), DRAW_SIZE(hole_bytes));
}
