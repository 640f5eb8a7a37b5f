/*
 * The screen of `memctl top` and the lines of its plain form, made from one snapshot of the figures (see
 * client_snapshot). Pure, like draw.h: it is given the size of the screen.
 */
#pragma once

#include <json-c/json.h>
#include <stdio.h>

#include "memd/memctl/draw.h"
#include "memd/memctl/spark.h"

/* What whoever sits before the screen has chosen; NULL instead of it: nobody does. */
struct frame_view {
	const struct sparks *sparks;
	size_t selected; /* index of the guest that keys act on */
	const char *hint; /* the last line: keys, or what the last one did */
};

/* Draws at most `rows` lines of `columns` columns each, "\n" after each but the last. */
void frame_draw(FILE *out, const struct style *style, struct json_object *snapshot,
	const struct frame_view *view, unsigned columns, unsigned rows);

/* The host in one line. `clock` opens it ("12:00:01"). */
void frame_host_line(FILE *out, struct json_object *host, const char *clock);
/* One guest in one line. */
void frame_guest_line(FILE *out, struct json_object *guest, const char *clock);

/* The bar of one guest: where its memory is, with its target. `cells` columns. */
void frame_guest_bar(
	FILE *out, const struct style *style, struct json_object *guest, unsigned cells);
/* The bar of the host: what is in use by kind, what is saved by kind, with the budget. */
void frame_host_bar(FILE *out, const struct style *style, struct json_object *host, unsigned cells);
