/*
 * The working set of one guest, from samples. Pure: which pages to look at and when goes out, what
 * was seen of them and the time come in; marking and looking is wss-probe.c's.
 *
 * DOC: survival of random pages
 *
 * A random present page is marked (paged out, or its idle bit set), and looked at again when it has
 * had 1, 5, 15, 60, 120 and 600 s of the guest's time to be touched. What is touched within 15 s is
 * the working set. Samples are kept by the second in which they were born: how many of these were
 * touched, and in which stratum between two looks, how many still run, and how many passed. The
 * working set is the average over the seconds, with those that still run counted as what they will
 * probably become: the part of those in a stratum that is touched in it is known from the last
 * minute, as the median of twelve parts of it. (What a change of the guest, or a swapoff, touches at
 * once falls into few of these; a mean would take it for the habit of a minute.) So a page that is
 * touched counts at once, and no sample has to grow old first. Ages beyond the window are products
 * of what strata let pass (Kaplan and Meier's estimator), averaged.
 *
 * Waldspurger 2002 counts over 30 s of guest time with fast and slow averages. Here they weigh
 * births with 3 and 15 s. A difference that chance does not explain (3 sigma) makes the slow one
 * forget what is older: at once when the guest uses more, and when it uses less, after that has
 * lasted for 15 s. So a steady guest has a steady figure without the bias of a maximum of two noisy
 * ones, a guest that grows is seen at once, and one that rests for a moment keeps its memory.
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

/* A marked page that has not been touched yet, as far as is known. */
struct wss_sample {
	uint64_t page; /* number within the RAM */
	uint64_t born_us; /* in guest time */
	uint32_t stratum; /* it is in: looked at again at the age wss_class_s[stratum] */
};

/* Of one stratum; decayed. */
struct wss_stratum {
	double entered, touched;
	double square; /* of the weights: how many samples the decayed numbers are worth */
};

/* Strata within the window. */
#define WSS_WINDOW_STRATA (WSS_WINDOW + 1)

/* The samples born in one second of guest time. */
struct wss_cohort {
	uint64_t second;
	uint32_t running[WSS_WINDOW_STRATA]; /* in that stratum now */
	uint32_t touched[WSS_WINDOW_STRATA]; /* in that stratum */
	uint32_t passed; /* idle for the whole window */
};
#define WSS_COHORTS 64

/* What left the strata of the window in 5 s of guest time. */
struct wss_block {
	uint64_t number;
	uint32_t entered[WSS_WINDOW_STRATA];
	uint32_t touched[WSS_WINDOW_STRATA];
};
#define WSS_BLOCKS 12

struct wss {
	struct wss_sample *samples;
	size_t n_samples, room;
	uint64_t guest_us; /* the guest's time since the start */
	struct wss_stratum strata[WSS_CLASSES];
	struct wss_cohort cohorts[WSS_COHORTS]; /* second % WSS_COHORTS */
	struct wss_block blocks[WSS_BLOCKS]; /* number % WSS_BLOCKS */
	double habit
		[WSS_WINDOW_STRATA]; /* the part that is touched in a stratum, as the blocks say */
	uint64_t slow_from_us; /* guest time: what was born before is forgotten */
	uint64_t lower_since_us; /* guest time: fast is below slow since; 0: it is not */
	double owed; /* samples due, with the fraction */
	uint32_t n_aged; /* for keeping every fourth */
	/* What a sample costs, as measured, averaged. */
	double cpu_each_us, cpu_per_s, stall_per_s;
	struct wss_figures figures;
};

void wss_init(struct wss *w);
void wss_done(struct wss *w);

/* wall_us went by, of which the guest could use guest_us. */
void wss_advance(struct wss *w, uint64_t wall_us, uint64_t guest_us);

enum wss_seen {
	WSS_IDLE, /* still as it was marked */
	WSS_TOUCHED,
	WSS_GONE, /* a hole now, or mapped from the pool: it tells nothing */
};
/* A look at one sample. */
struct wss_look {
	uint64_t page;
	bool ages; /* when it is still idle, it has been for the whole window */
	uint32_t sample; /* index, valid until the next wss_saw or wss_forget */
	enum wss_seen seen; /* filled by who looks */
};
/* The samples that are due, at most max of them, oldest first. Returns how many. */
size_t wss_due(const struct wss *w, struct wss_look *looks, size_t max);
/* What was seen, of looks that came from wss_due. fault_us: what a fault costs the guest. */
void wss_saw(struct wss *w, const struct wss_look *looks, size_t n, double fault_us);

struct wss_limits {
	uint32_t width_bp; /* asked for, at 3 sigma, of the memory sampled */
	uint32_t cpu_bp; /* at most, of one core */
	uint32_t stall_bp; /* at most, of the guest's time */
	double fault_us;
};
/* How many pages to mark now, at most max. */
size_t wss_wanted(struct wss *w, const struct wss_limits *limits, uint64_t wall_us, size_t max);
/* These were marked. -ENOMEM: they are not followed. */
int wss_add(struct wss *w, const uint64_t *pages, size_t n);
/* cpu_us was spent on looking and marking n_marked. */
void wss_spent(struct wss *w, uint64_t cpu_us, size_t n_marked);
/* Pages [first, first + n) were paged out as a whole: what is seen of them tells nothing any more. */
void wss_forget(struct wss *w, uint64_t first, uint64_t n);

/* Makes the figures: of the bytes that samples are drawn from, and of others that behave alike. */
void wss_estimate(struct wss *w, const char *source, uint64_t sampled_bytes, uint64_t alike_bytes);
