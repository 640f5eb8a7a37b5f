/*
 * Drawing with characters: bars, coloured legends, sizes in few columns, and lines cut to a terminal's
 * width. Pure: writes to the stream that it is given, and reads neither terminal nor environment.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct style {
	bool colour; /* escape sequences for colours may be written */
	bool unicode; /* the terminal shows block elements */
};

/* What a cell of a bar stands for. */
enum paint {
	/* in the host's memory */
	PAINT_PRIVATE,
	PAINT_SHARED, /* of the pool */
	PAINT_SWAP_RAM, /* what swapped pages occupy in RAM */
	PAINT_OVERHEAD,
	/* not in it */
	PAINT_SWAPPED,
	PAINT_SAVED_SHARING,
	PAINT_ZERO,
	PAINT_BALLOON,
	PAINT_REPORTED,
	PAINT_UNTOUCHED,
};

struct segment {
	uint64_t bytes;
	enum paint paint;
};

#define NO_MARKER UINT64_MAX

/*
 * A bar of `cells` columns that stands for full_bytes: the segments one after the other, what they leave
 * blank, and a marker (NO_MARKER: none) at marker_bytes. Segments beyond the end are cut.
 */
void draw_bar(FILE *out, const struct style *style, const struct segment *segments, size_t n,
	uint64_t full_bytes, uint64_t marker_bytes, unsigned cells);

/* One cell as it looks in a bar, a blank, and its name: an entry of a legend. */
void draw_legend(FILE *out, const struct style *style, enum paint paint, const char *name);

/* The marker as it looks in a bar. */
void draw_marker(FILE *out, const struct style *style);

/* Text in bold, or in a colour that says good, bad or unimportant; plain where style has no colours. */
enum emphasis { EMPHASIS_BOLD, EMPHASIS_GOOD, EMPHASIS_WARN, EMPHASIS_BAD, EMPHASIS_FAINT };
/* What stdout can show: colours only for a terminal, and by NO_COLOR. */
struct style stdout_style(void);

void draw_text(FILE *out, const struct style *style, enum emphasis emphasis, const char *text);

/* "934M", "1.0G", "12K", "0": at most five characters below 10000 TiB. Writes to buffer and returns it. */
char *draw_size(uint64_t bytes, char *buffer, size_t size);
#define DRAW_SIZE(b) draw_size((b), (char[16]){0}, 16)

/*
 * Writes `line` cut to `columns` columns. Escape sequences count nothing and are kept, also behind the
 * cut, so that no colour leaks into the next line; a UTF-8 sequence counts one.
 */
void draw_clipped(FILE *out, const char *line, unsigned columns);
