/* See draw.h. */
#include "memd/memctl/draw.h"

#include <langinfo.h>
#include <stdlib.h>
#include <unistd.h>

#include <string.h>
#include <sys/param.h>

#include "memd/base/cleanup.h"
#include "memd/base/units.h"

#define SGR_RESET "\033[0m"

struct look {
	const char *sgr;
	const char *block; /* where colours tell them apart */
	char letter; /* where they do not */
};

/* Solid is in the host's memory, hatched is not; a colour stands for the same mechanism in both. */
static const struct look looks[] = {
	[PAINT_PRIVATE] = {"\033[34m", "█", '#'},
	[PAINT_SHARED] = {"\033[32m", "█", '='},
	[PAINT_SWAP_RAM] = {"\033[35m", "█", '~'},
	[PAINT_OVERHEAD] = {"\033[37m", "█", '+'},
	[PAINT_SWAPPED] = {"\033[35m", "▒", 'p'},
	[PAINT_SAVED_SHARING] = {"\033[32m", "▒", 's'},
	[PAINT_ZERO] = {"\033[33m", "▒", 'z'},
	[PAINT_BALLOON] = {"\033[36m", "▒", 'b'},
	[PAINT_REPORTED] = {"\033[36m", "░", 'r'},
	[PAINT_UNTOUCHED] = {"\033[90m", "·", '.'},
};

static const char *const emphases[] = {
	[EMPHASIS_BOLD] = "\033[1m",
	[EMPHASIS_GOOD] = "\033[32m",
	[EMPHASIS_WARN] = "\033[33m",
	[EMPHASIS_BAD] = "\033[1;31m",
	[EMPHASIS_FAINT] = "\033[90m",
};

/* Blocks without colours cannot be told apart: letters then. */
static bool has_blocks(const struct style *style)
{
	return style->colour && style->unicode;
}

void draw_marker(FILE *out, const struct style *style)
{
	draw_text(out, style, EMPHASIS_BOLD, has_blocks(style) ? "│" : "|");
}

static void put_cells(FILE *out, const struct style *style, enum paint paint, unsigned n)
{
	const struct look *look = &looks[paint];

	if (n == 0)
		return;
	if (style->colour)
		fputs(look->sgr, out);
	for (unsigned i = 0; i < n; i++)
		if (has_blocks(style))
			fputs(look->block, out);
		else
			fputc(look->letter, out);
	if (style->colour)
		fputs(SGR_RESET, out);
}

/* The cell at which `bytes` ends, to the nearest. */
static unsigned cell_at(uint64_t bytes, uint64_t full_bytes, unsigned cells)
{
	if (full_bytes == 0)
		return 0;
	bytes = MIN(bytes, full_bytes);
	return (unsigned)(((unsigned __int128)bytes * cells + full_bytes / 2) / full_bytes);
}

/* Cells [from, to) of one paint, with the marker over the cell that it falls on. */
static void put_span(FILE *out, const struct style *style, int paint, unsigned from, unsigned to,
	unsigned marker)
{
	for (unsigned cell = from; cell < to;) {
		unsigned end = marker >= cell && marker < to ? marker : to;

		if (paint < 0)
			fprintf(out, "%*s", (int)(end - cell), "");
		else
			put_cells(out, style, (enum paint)paint, end - cell);
		cell = end;
		if (cell == marker && cell < to) {
			draw_marker(out, style);
			cell++;
		}
	}
}

void draw_bar(FILE *out, const struct style *style, const struct segment *segments, size_t n,
	uint64_t full_bytes, uint64_t marker_bytes, unsigned cells)
{
	unsigned marker = UINT32_MAX, cell = 0;
	uint64_t sum_bytes = 0;

	if (cells == 0)
		return;
	if (marker_bytes != NO_MARKER)
		marker = MIN(cell_at(marker_bytes, full_bytes, cells), cells - 1);
	for (size_t i = 0; i < n; i++) {
		unsigned end;

		sum_bytes += MIN(segments[i].bytes, UINT64_MAX - sum_bytes);
		end = cell_at(sum_bytes, full_bytes, cells);
		put_span(out, style, (int)segments[i].paint, cell, end, marker);
		cell = end;
	}
	put_span(out, style, -1, cell, cells, marker);
}

void draw_legend(FILE *out, const struct style *style, enum paint paint, const char *name)
{
	put_cells(out, style, paint, 1);
	fprintf(out, " %s", name);
}

void draw_text(FILE *out, const struct style *style, enum emphasis emphasis, const char *text)
{
	if (style->colour)
		fprintf(out, "%s%s%s", emphases[emphasis], text, SGR_RESET);
	else
		fputs(text, out);
}

char *draw_size(uint64_t bytes, char *buffer, size_t size)
{
	static const char letters[] = "BKMGT";
	uint64_t unit = 1;
	unsigned i = 0;

	/* the next unit once three digits do not hold it; 999.5 of one would print as 1000 */
	while (i + 2 < sizeof(letters) && bytes / unit >= 1000) {
		unit <<= 10;
		i++;
	}
	if (i == 0)
		snprintf(buffer, size, bytes == 0 ? "0" : "%uB", (unsigned)bytes);
	else if (bytes / unit < 10)
		snprintf(buffer, size, "%.1f%c", (double)bytes / (double)unit, letters[i]);
	else
		snprintf(buffer, size, "%.0f%c", (double)bytes / (double)unit, letters[i]);
	return buffer;
}

void draw_clipped(FILE *out, const char *line, unsigned columns)
{
	unsigned column = 0;

	for (const char *c = line; *c;) {
		size_t n = 1;

		if (*c == '\033') {
			n = strcspn(c, "m");
			n += c[n] != '\0';
			fwrite(c, 1, n, out);
			c += n;
			continue;
		}
		while (((unsigned char)c[n] & 0xc0) == 0x80)
			n++;
		if (column < columns)
			fwrite(c, 1, n, out);
		column++;
		c += n;
	}
}

struct style stdout_style(void)
{
	const char *no_colour = getenv("NO_COLOR");
	bool terminal = isatty(STDOUT_FILENO);

	return (struct style){
		.colour = terminal && !(no_colour && *no_colour),
		.unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0,
	};
}
