/* The estimator; see wss.h. */
#include "memd/wss.h"

#include <math.h>

#include "memd/base/clock.h"
#include "memd/base/cleanup.h"
#include "memd/base/overflow.h"

#define FAST_US	      (3 * US_PER_S)
#define SLOW_US	      (15 * US_PER_S)
/* Over which what strata let pass is averaged, at least. */
#define STRATA_US     (60 * US_PER_S)
#define BLOCK_US      (5 * US_PER_S)
/* Samples in a block, and such blocks, for a median. */
#define BLOCK_MIN     8
#define BLOCKS_MIN    3
#define FALL_LASTS_US (15 * US_PER_S)
#define SIGMAS	      3.0
/* A look may come a little early: the timer's, and the guest's time's, precision. */
#define EARLY_US      (US_PER_S / 4)
/* No estimate from fewer: of a stratum, for it to be shown; of the first, for any. */
#define STRATUM_MIN   20
#define FIRST_MIN     60
/* The variance p (1 - p) that is planned for is that of p = 0.1 at least: p may grow. */
#define VARIANCE_MIN  0.09
#define RATE_MIN      4.0 /* a second: for changes to be seen at all */
#define RATE_MAX      200.0
#define KEEP_ONE_OF   4
#define SAMPLES_MAX   65536
/* Over which time costs are averaged. */
#define COST_US	      (30 * US_PER_S)

const uint32_t wss_class_s[WSS_CLASSES] = {1, 5, 15, 60, 120, 600};

void wss_init(struct wss *w)
{
	*w = (struct wss){0};
}

void wss_done(struct wss *w)
{
	free(w->samples);
	*w = (struct wss){0};
}

static uint64_t class_us(uint32_t stratum)
{
	return wss_class_s[stratum] * US_PER_S;
}

/* A stratum longer than the average is averaged over its own length: less comes through it. */
static void decay(struct wss *w, uint64_t guest_us)
{
	for (uint32_t i = 0; i < WSS_CLASSES; i++) {
		double k = exp(-(double)guest_us / (double)u64_max(STRATA_US, class_us(i)));

		w->strata[i].entered *= k;
		w->strata[i].touched *= k;
		w->strata[i].square *= k * k;
	}
}

static int compare_doubles(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

/* Half a sample either way: none of ten touched is not never. */
static double part_touched(double touched, double entered)
{
	return (touched + 0.5) / (entered + 1);
}

/* The median over the blocks of the last minute that saw enough; over all of it with few of them. */
static double habit_of(const struct wss *w, uint32_t stratum)
{
	uint64_t now = w->guest_us / BLOCK_US;
	double parts[WSS_BLOCKS], entered = 0, touched = 0;
	size_t n = 0;

	for (size_t i = 0; i < WSS_BLOCKS; i++) {
		const struct wss_block *b = &w->blocks[i];

		if (now - b->number >= WSS_BLOCKS)
			continue;
		entered += b->entered[stratum];
		touched += b->touched[stratum];
		if (b->entered[stratum] >= BLOCK_MIN)
			parts[n++] = part_touched(b->touched[stratum], b->entered[stratum]);
	}
	if (n < BLOCKS_MIN)
		return part_touched(touched, entered);
	qsort(parts, n, sizeof(parts[0]), compare_doubles);
	return (parts[(n - 1) / 2] + parts[n / 2]) / 2;
}

static struct wss_block *block_now(struct wss *w)
{
	uint64_t number = w->guest_us / BLOCK_US;
	struct wss_block *b = &w->blocks[number % WSS_BLOCKS];

	if (b->number != number)
		*b = (struct wss_block){.number = number};
	return b;
}

void wss_advance(struct wss *w, uint64_t wall_us, uint64_t guest_us)
{
	double k = exp(-(double)wall_us / (double)COST_US);

	for (uint32_t i = 0; i < WSS_WINDOW_STRATA; i++)
		w->habit[i] = habit_of(w, i);
	w->guest_us += guest_us;
	decay(w, guest_us);
	w->cpu_per_s *= k;
	w->stall_per_s *= k;
}

/* The cohort born then, NULL when it is too old to be kept. */
static struct wss_cohort *cohort_of(struct wss *w, uint64_t born_us)
{
	uint64_t second = born_us / US_PER_S;
	struct wss_cohort *c = &w->cohorts[second % WSS_COHORTS];

	if (c->second > second)
		return NULL;
	if (c->second != second)
		*c = (struct wss_cohort){.second = second};
	return c;
}

static uint64_t age(const struct wss *w, const struct wss_sample *s)
{
	return w->guest_us - s->born_us;
}

static bool is_due(const struct wss *w, const struct wss_sample *s)
{
	return age(w, s) + EARLY_US >= class_us(s->stratum);
}

size_t wss_due(const struct wss *w, struct wss_look *looks, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < w->n_samples && n < max; i++)
		if (is_due(w, &w->samples[i]))
			looks[n++] = (struct wss_look){
				.page = w->samples[i].page,
				.ages = w->samples[i].stratum == WSS_WINDOW,
				.sample = (uint32_t)i,
			};
	return n;
}

/* A sample leaves the stratum that it is in. */
static void leave_stratum(struct wss *w, const struct wss_sample *s, enum wss_seen seen)
{
	struct wss_stratum *t = &w->strata[s->stratum];
	struct wss_cohort *c = s->stratum <= WSS_WINDOW ? cohort_of(w, s->born_us) : NULL;

	if (seen != WSS_GONE) {
		t->entered += 1;
		t->square += 1;
		t->touched += seen == WSS_TOUCHED;
	}
	/* One that is lost later on was idle until then, and still counts as what will become of it. */
	if (s->stratum <= WSS_WINDOW && seen != WSS_GONE) {
		struct wss_block *b = block_now(w);

		b->entered[s->stratum]++;
		b->touched[s->stratum] += seen == WSS_TOUCHED;
	}
	if (!c || (seen == WSS_GONE && s->stratum > 0))
		return;
	c->running[s->stratum]--;
	if (seen == WSS_TOUCHED)
		c->touched[s->stratum]++;
	else if (seen == WSS_IDLE && s->stratum < WSS_WINDOW)
		c->running[s->stratum + 1]++;
	else if (seen == WSS_IDLE)
		c->passed++;
}

/* A look that came late finds what several strata would have found. Returns whether it stays. */
static bool pass(struct wss *w, struct wss_sample *s)
{
	while (s->stratum < WSS_CLASSES && is_due(w, s)) {
		leave_stratum(w, s, WSS_IDLE);
		s->stratum++;
		if (s->stratum == WSS_WINDOW + 1 && ++w->n_aged % KEEP_ONE_OF != 0)
			return false;
	}
	return s->stratum < WSS_CLASSES;
}

static bool stays(struct wss *w, const struct wss_look *look, double fault_us)
{
	struct wss_sample *s = &w->samples[look->sample];

	if (look->seen == WSS_IDLE)
		return pass(w, s);
	leave_stratum(w, s, look->seen);
	if (look->seen == WSS_TOUCHED) {
		w->figures.touched++;
		w->figures.stall_us += (uint64_t)fault_us;
		w->stall_per_s += fault_us / ((double)COST_US / US_PER_S);
	}
	return false;
}

void wss_saw(struct wss *w, const struct wss_look *looks, size_t n, double fault_us)
{
	size_t kept = n ? looks[0].sample : w->n_samples, next = 0;

	for (size_t i = kept; i < w->n_samples; i++) {
		if (next < n && looks[next].sample == i && !stays(w, &looks[next++], fault_us))
			continue;
		w->samples[kept++] = w->samples[i];
	}
	w->n_samples = kept;
}

void wss_forget(struct wss *w, uint64_t first, uint64_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < w->n_samples; i++) {
		if (w->samples[i].page - first < n)
			leave_stratum(w, &w->samples[i], WSS_GONE);
		else
			w->samples[kept++] = w->samples[i];
	}
	w->n_samples = kept;
}

int wss_add(struct wss *w, const uint64_t *pages, size_t n)
{
	struct wss_sample *larger;
	size_t room = w->n_samples + n;

	if (room > SAMPLES_MAX)
		return -ENOMEM;
	if (room > w->room) {
		room += room / 2;
		larger = reallocarray(w->samples, room, sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		w->samples = larger;
		w->room = room;
	}
	for (size_t i = 0; i < n; i++)
		w->samples[w->n_samples++] =
			(struct wss_sample){.page = pages[i], .born_us = w->guest_us};
	cohort_of(w, w->guest_us)->running[0] += (uint32_t)n;
	w->figures.samples += n;
	return 0;
}

void wss_spent(struct wss *w, uint64_t cpu_us, size_t n_marked)
{
	w->figures.cpu_us += cpu_us;
	w->cpu_per_s += (double)cpu_us / ((double)COST_US / US_PER_S);
	if (n_marked) {
		double each = (double)cpu_us / (double)n_marked;

		w->cpu_each_us = w->cpu_each_us > 0 ? w->cpu_each_us * 0.9 + each * 0.1 : each;
	}
}

/* The part of what enters stratum `from` that passes all up to `to`. */
static double passing(const struct wss *w, uint32_t from, uint32_t to)
{
	double part = 1;

	for (uint32_t i = from; i <= to; i++)
		part *= 1 - (i <= WSS_WINDOW ? w->habit[i]
					     : part_touched(
						       w->strata[i].touched, w->strata[i].entered));
	return part;
}

/* What an average says. */
struct idleness {
	double part; /* that is idle for the age asked for */
	double sigma;
};

static uint32_t cohort_size(const struct wss_cohort *c)
{
	uint32_t n = c->passed;

	for (uint32_t i = 0; i < WSS_WINDOW_STRATA; i++)
		n += c->running[i] + c->touched[i];
	return n;
}

/* Those of a cohort that are, or will probably be, idle for the class. */
static double cohort_idle(const struct wss *w, const struct wss_cohort *c, uint32_t class)
{
	double n = c->passed;

	for (uint32_t i = 0; i < WSS_WINDOW_STRATA; i++) {
		if (i > class)
			n += c->touched[i] + c->running[i];
		else
			n += c->running[i] * passing(w, i, class);
	}
	return n;
}

/* Idleness for a class of the window, from what was born since from_us, weighed over over_us. */
static struct idleness idleness(
	const struct wss *w, uint32_t class, uint64_t from_us, uint64_t over_us)
{
	uint64_t now_s = w->guest_us / US_PER_S;
	double sum = 0.5, weights = 1, squares = 1, variance; /* half a sample either way */

	for (uint32_t i = 0; i < WSS_COHORTS; i++) {
		const struct wss_cohort *c = &w->cohorts[i];
		uint32_t n = cohort_size(c);
		double weight;

		/* Of those that nobody looked at yet, nothing is known. */
		if (n == 0 || n == c->running[0] || c->second * US_PER_S < from_us)
			continue;
		weight = exp(-(double)((now_s - c->second) * US_PER_S) / (double)over_us);
		sum += weight * cohort_idle(w, c, class);
		weights += weight * n;
		squares += weight * weight * n;
	}
	sum /= weights;
	variance = sum * (1 - sum) * squares / (weights * weights);
	return (struct idleness){.part = sum, .sigma = sqrt(variance)};
}

static struct idleness idle_slow(const struct wss *w, uint32_t class)
{
	return idleness(w, class, w->slow_from_us, SLOW_US);
}

/* Slow forgets what chance does not explain; see wss.h. */
static void forget_former(struct wss *w, const struct idleness *fast)
{
	struct idleness slow = idle_slow(w, WSS_WINDOW);
	double bound = SIGMAS * fast->sigma;
	bool lower = fast->part > slow.part + bound, higher = fast->part < slow.part - bound;

	if (!lower)
		w->lower_since_us = 0;
	else if (!w->lower_since_us)
		w->lower_since_us = w->guest_us;
	if (higher || (lower && w->guest_us - w->lower_since_us >= FALL_LASTS_US)) {
		w->slow_from_us = u64_sub_or_zero(w->guest_us, 2 * FAST_US);
		w->lower_since_us = 0;
	}
}

size_t wss_wanted(struct wss *w, const struct wss_limits *limits, uint64_t wall_us, size_t max)
{
	double idle = idle_slow(w, WSS_WINDOW).part;
	double variance = fmax(idle * (1 - idle), VARIANCE_MIN);
	double width = limits->width_bp / 10000.0 / SIGMAS;
	double rate = variance / (width * width) / (2.0 * SLOW_US / US_PER_S);
	double stall_each = fmax(limits->fault_us * (1 - idle), 1);
	size_t n;

	if (!w->figures.valid) /* nothing is known: as for the largest variance */
		rate = 0.25 / (width * width) / (2.0 * SLOW_US / US_PER_S);
	rate = fmin(fmax(rate, RATE_MIN), RATE_MAX);
	rate = fmin(rate, limits->stall_bp / 10000.0 * US_PER_S / stall_each);
	if (w->cpu_each_us > 0)
		rate = fmin(rate, limits->cpu_bp / 10000.0 * US_PER_S / w->cpu_each_us);
	w->figures.per_second_milli = (uint32_t)(rate * 1000);
	/* What could not be marked in its time is not made up for. */
	w->owed = fmin(w->owed, 1) + rate * (double)wall_us / US_PER_S;
	n = (size_t)w->owed;
	if (n > max)
		n = max;
	w->owed -= (double)n;
	return n;
}

static uint32_t to_bp(double part)
{
	return (uint32_t)lround(fmin(part, 1) * 10000);
}

void wss_estimate(struct wss *w, const char *source, uint64_t sampled_bytes, uint64_t alike_bytes)
{
	double whole = (double)(sampled_bytes + alike_bytes);
	struct idleness fast = idleness(w, WSS_WINDOW, 0, FAST_US), slow;
	struct wss_figures *f = &w->figures;

	f->source = source;
	f->cost_bp = to_bp(w->cpu_per_s / US_PER_S);
	f->stall_bp = to_bp(w->stall_per_s / US_PER_S);
	f->valid = w->guest_us >= class_us(WSS_WINDOW) && w->strata[0].entered >= FIRST_MIN;
	if (!f->valid)
		return;
	forget_former(w, &fast);
	slow = idle_slow(w, WSS_WINDOW);
	f->slow_bytes = (uint64_t)(whole * (1 - slow.part));
	f->fast_bytes = (uint64_t)(whole * (1 - fast.part));
	f->bytes = f->slow_bytes;
	f->error_bytes = (uint64_t)(whole * fmin(SIGMAS * slow.sigma, 1));
	for (uint32_t i = 0; i < WSS_CLASSES; i++) {
		const struct wss_stratum *t = &w->strata[i];
		bool known = i <= WSS_WINDOW || t->entered * t->entered >= STRATUM_MIN * t->square;
		double idle = i <= WSS_WINDOW ? idle_slow(w, i).part
					      : slow.part * passing(w, WSS_WINDOW + 1, i);

		f->idle_bytes[i] = known ? (uint64_t)(whole * idle) : 0;
	}
}
