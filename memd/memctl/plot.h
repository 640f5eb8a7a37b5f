/*
 * Pictures, drawn by gnuplot, which is run as a child: FILE.svg or FILE.png. A caller writes a script of
 * its own, or has curves over time drawn.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "memd/base/error.h"

/* What gnuplot calls the format that the name of the file asks for; NULL: neither of the two. */
const char *plot_terminal(const char *path);
/* A string of gnuplot's, so that no name becomes a command. */
void plot_put_text(FILE *script, const char *text);
/* Runs a script of n bytes. -ENOENT: gnuplot is not there; -EIO: it failed, and has said why. */
int plot_draw(const char *script, size_t n, struct error *e);

/* Curves over time: seconds since 1970, bytes. */
struct plot {
	const char *path;
	char *data, *command; /* what the streams wrote */
	size_t data_bytes, command_bytes;
	FILE *data_stream, *command_stream;
	unsigned n_curves;
};

enum plot_line { PLOT_SOLID, PLOT_DASHED };

/* path belongs to the caller. -EINVAL: it ends neither with .svg nor with .png. -ENOMEM. */
int plot_begin(struct plot *p, const char *path, const char *title, struct error *e);
/*
 * Begins a curve; its points follow. `colour` is a number from 0: curves of one number look alike
 * but for the line.
 */
void plot_curve(struct plot *p, const char *name, unsigned colour, enum plot_line line);
void plot_point(struct plot *p, double seconds, uint64_t bytes);
/* Draws: as plot_draw; -ENODATA: no curve was begun. */
int plot_end(struct plot *p, struct error *e);
/* Gives it up, drawn or not. */
void plot_done(struct plot *p);
