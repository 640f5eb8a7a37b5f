/*
 * Log lines to stderr, with the "<N>" level prefix of sd-daemon(3) when stderr is the journal
 * (JOURNAL_STREAM is set), plain text otherwise. Only top layers log, once, with the numbers that
 * justified the act.
 */
#pragma once

#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_NOTICE = 5,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

/*
 * Lines above this level are dropped. Default INFO; MEMD_LOG=debug|info|notice|warning|error sets
 * it.
 */
void log_set_max_level(enum log_level level);
/* Reads MEMD_LOG, and remembers ident ("memd", "memd-vmm g1") to open each plain line. */
void log_open(const char *ident);

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_write(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* A limit for lines that a guest can cause: `burst` lines per `interval_us`, the rest counted. */
struct log_ratelimit {
	uint64_t interval_us;
	unsigned burst;
	/* private */
	uint64_t begin_us;
	unsigned seen;
	unsigned dropped;
};
#define LOG_RATELIMIT_INIT {.interval_us = 5000000, .burst = 10}

/*
 * 1 when the line may be written (after saying how many were dropped), 0 when not. Not thread safe:
 * one per owner.
 */
int log_ratelimit_pass(struct log_ratelimit *r);
