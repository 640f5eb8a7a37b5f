/*
 * Log lines to stderr, each with one write(2), so that lines of several threads and processes do
 * not mix. Control characters are replaced: a line may carry text from a guest, and must stay one
 * line.
 */
#include "memd/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memd/base/cleanup.h"
#include "memd/base/clock.h"
#include "memd/base/text.h"

#define LINE_MAX_BYTES 2048

static _Atomic(enum log_level) max_level = LOG_LEVEL_INFO;
static char ident[80]; /* written by log_open, before threads */
static int journal; /* likewise */

static const struct {
	const char *name;
	enum log_level level;
} level_names[] = {
	{"error", LOG_LEVEL_ERROR},
	{"warning", LOG_LEVEL_WARNING},
	{"notice", LOG_LEVEL_NOTICE},
	{"info", LOG_LEVEL_INFO},
	{"debug", LOG_LEVEL_DEBUG},
};

void log_set_max_level(enum log_level level)
{
	atomic_store(&max_level, level);
}

void log_open(const char *name)
{
	const char *wanted = getenv("MEMD_LOG");

	snprintf(ident, sizeof(ident), "%s", name);
	journal = getenv("JOURNAL_STREAM") != NULL;
	for (size_t i = 0; wanted && i < ARRAY_SIZE(level_names); i++)
		if (strcmp(wanted, level_names[i].name) == 0)
			log_set_max_level(level_names[i].level);
}

static const char *level_name(enum log_level level)
{
	for (size_t i = 0; i < ARRAY_SIZE(level_names); i++)
		if (level_names[i].level == level)
			return level_names[i].name;
	return "log";
}

void log_write(enum log_level level, const char *format, ...)
{
	char line[LINE_MAX_BYTES];
	size_t used;
	int n;
	va_list ap;

	if (level > atomic_load(&max_level))
		return;
	if (journal)
		n = snprintf(line, sizeof(line), "<%d>", (int)level);
	else
		n = snprintf(line, sizeof(line), "%s%s%s: ", ident, ident[0] ? ": " : "",
			level_name(level));
	used = (size_t)n;
	va_start(ap, format);
	n = vsnprintf(line + used, sizeof(line) - used, format, ap);
	va_end(ap);
	if (n > 0)
		used += (size_t)n;
	if (used > sizeof(line) - 1)
		used = sizeof(line) - 1;
	text_clean(line);
	line[used++] = '\n'; /* over the NUL */
	/* A log that cannot be written has nobody left to tell. */
	if (write(STDERR_FILENO, line, used) < 0)
		return;
}

int log_ratelimit_pass(struct log_ratelimit *r)
{
	uint64_t now_us = clock_monotonic_us();

	if (r->begin_us == 0 || now_us - r->begin_us >= r->interval_us) {
		if (r->dropped)
			log_warning("%u similar lines were dropped", r->dropped);
		r->begin_us = now_us;
		r->seen = 0;
		r->dropped = 0;
	}
	if (r->seen >= r->burst) {
		r->dropped++;
		return 0;
	}
	r->seen++;
	return 1;
}
