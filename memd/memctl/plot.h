/*
 * Curves over time as a picture, drawn by gnuplot, which is run as a child: FILE.svg or FILE.png.
 * Times are seconds since 1970, values are bytes.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "memd/base/error.h"

struct plot {
	const char *path;
	const char *terminal; /* of gnuplot */
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
/* Draws. -ENOENT: gnuplot is not there; -EIO: it failed, and has said why. */
int plot_end(struct plot *p, struct error *e);
/* Gives it up, drawn or not. */
void plot_done(struct plot *p);
