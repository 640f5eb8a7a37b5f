/*
 * What `memctl top` remembers of each guest: how its working set (its cost, while nobody knows that)
 * stood to its target at the last readings, and a line of eighth blocks that shows it.
 */
#pragma once

#include <json-c/json.h>
#include <stdio.h>

#include "memd/memctl/draw.h"

#define SPARK_READINGS 16

struct sparks;

/* NULL when out of memory. */
struct sparks *sparks_new(void);
void sparks_free(struct sparks *s);
/* One reading: `guests` as in a snapshot. Guests that are not there are forgotten. */
void sparks_note(struct sparks *s, struct json_object *guests);
/* SPARK_READINGS cells, the newest at the right; more than the target in the colour of a warning. */
void sparks_draw(FILE *out, const struct style *style, const struct sparks *s, const char *name);
