/*
 * The working set of one guest, from samples. Pure: which pages to look at and when goes out, what
 * was seen of them and the time come in; marking and looking is wss-probe.c's.
 *
 * DOC: survival of a random page
 *
 * A random present page is marked (paged out, or its idle bit set), and looked at again when it has
 * had 1, 5, 15, 60, 120 and 600 s of the guest's time to be touched. Between two looks lies a
 * stratum. Of each stratum two numbers are kept, decayed over time: how many marked pages entered
 * it, and how many of them were touched in it. The part that a stratum lets pass is
 *
 *     s = 1 - touched / entered
 *
 * and the part of the memory that stays idle for an age is the product of s up to there (Kaplan and
 * Meier's estimator); its variance is Greenwood's. What is not idle for 15 s is the working set.
 * Since each stratum is estimated from who passes through it now, a working set that shrinks shows
 * in the first stratum a second later, not when the first marked page has grown 15 s old.
 *
 * Waldspurger 2002 counts over 30 s of guest time with fast and slow averages. Here both are the
 * same product from numbers that decay fast (3 s) and slowly (15 s). A difference that chance does
 * not explain (3 sigma of the two together) makes the slow one jump: up at once, down only when it
 * has lasted for 15 s. So a steady guest has a steady figure without the bias of a maximum of two
 * noisy ones, a guest that grows is seen at once, and one that rests for a moment keeps its memory.
 *
 * Time is the guest's: a second in which its vCPUs waited for memory half of the time is half a
 * second, and a paused guest has none, since it could not touch anything. Else a guest that
 * thrashes would look idle, and lose what it waits for.
 *
 * How many: width w at 3 sigma wants p (1 - p) (3 / w)^2 samples in the averaging window, at most
 * 900 for 5 points; an average that decays with T holds rate * 2 T of them. The rate is cut to what
 * the stall and the CPU time allow, and the error shown grows by that.
 *
 * Memory: 24 bytes a sample that is still out, of those older than 15 s every fourth is kept.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WSS_CLASSES 6
/* The class that makes the working set: 15 s. */
#define WSS_WINDOW  2

/* The ages of the classes in seconds: 1, 5, 15, 60, 120, 600. */
extern const uint32_t wss_class_s[WSS_CLASSES];

/* What an estimate says; all 0 until there is one. */
struct wss_figures {
	const char *source; /* "page-out", "idle-bits", "balloon"; "" */
	bool valid;
	uint64_t bytes; /* the figure to plan with */
	uint64_t slow_bytes;
	uint64_t fast_bytes;
	uint64_t error_bytes; /* of bytes, at 3 sigma */
	uint64_t idle_bytes
		[WSS_CLASSES]; /* present and not touched for that age; 0: not known yet */
	uint64_t samples; /* marked, since the start */
	uint64_t touched; /* of those, touched since */
	uint64_t cpu_us; /* spent on them */
	uint64_t stall_us; /* caused by them */
	uint32_t cost_bp; /* CPU, of one core, lately */
	uint32_t stall_bp; /* of the guest's time, lately */
	uint32_t per_second_milli; /* samples a second, in thousandths */
};
