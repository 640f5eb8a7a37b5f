/* See spark.h. */
#include "memd/memctl/spark.h"

#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

#include "memd/memctl/client.h"

#define NAME_MAX_BYTES 64
#define FULL	       100 /* percent of the target */

struct spark {
	char name[NAME_MAX_BYTES];
	unsigned n;
	uint8_t percent[SPARK_READINGS]; /* oldest first; FULL + 1 and more: above the target */
	bool seen; /* in the last reading */
};

struct sparks {
	struct spark *all;
	size_t n;
};

struct sparks *sparks_new(void)
{
	return calloc(1, sizeof(struct sparks));
}

void sparks_free(struct sparks *s)
{
	if (s)
		free(s->all);
	free(s);
}

static struct spark *find(const struct sparks *s, const char *name)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->all[i].name, name) == 0)
			return &s->all[i];
	return NULL;
}

static struct spark *find_or_add(struct sparks *s, const char *name)
{
	struct spark *found = find(s, name), *all;

	if (found || strlen(name) >= NAME_MAX_BYTES)
		return found;
	all = reallocarray(s->all, s->n + 1, sizeof(*all));
	if (!all)
		return NULL;
	s->all = all;
	all[s->n] = (struct spark){0};
	strcpy(all[s->n].name, name);
	return &all[s->n++];
}

static void add(struct spark *spark, unsigned percent)
{
	if (spark->n == SPARK_READINGS) {
		memmove(spark->percent, spark->percent + 1, SPARK_READINGS - 1);
		spark->n--;
	}
	spark->percent[spark->n++] = (uint8_t)MIN(percent, UINT8_MAX);
	spark->seen = true;
}

void sparks_note(struct sparks *s, struct json_object *guests)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->n; i++)
		s->all[i].seen = false;
	for (size_t i = 0; i < json_object_array_length(guests); i++) {
		struct json_object *guest = json_object_array_get_idx(guests, i);
		struct spark *spark = find_or_add(s, figure_text(guest, "name"));
		uint64_t target = figure_u64(guest, "target_bytes");
		uint64_t used = figure_u64(guest, "working_set_bytes");

		if (used == 0)
			used = figure_u64(guest, "resident_bytes");
		if (spark)
			add(spark,
				target ? (unsigned)MIN(used / (target / FULL + 1), UINT8_MAX) : 0);
	}
	for (size_t i = 0; i < s->n; i++)
		if (s->all[i].seen)
			s->all[kept++] = s->all[i];
	s->n = kept;
}

void sparks_draw(FILE *out, const struct style *style, const struct sparks *s, const char *name)
{
	static const char *const blocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
	static const char *const letters[] = {".", ".", "-", "-", "=", "=", "#", "#"};
	const struct spark *spark = find(s, name);
	unsigned n = spark ? spark->n : 0;

	fprintf(out, "%*s", (int)(SPARK_READINGS - n), "");
	for (unsigned i = 0; i < n; i++) {
		unsigned level = MIN(spark->percent[i] * 8U / (FULL + 1), 7U);
		const char *cell = style->unicode ? blocks[level] : letters[level];

		if (spark->percent[i] > FULL)
			draw_text(out, style, EMPHASIS_WARN, cell);
		else
			fputs(cell, out);
	}
}
