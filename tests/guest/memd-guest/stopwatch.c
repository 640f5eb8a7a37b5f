/* See stopwatch.h. */
#include "tests/guest/memd-guest/stopwatch.h"
#include "tests/guest/memd-guest/cmdline.h"
#include "tests/guest/memd-guest/time.h"

#define SLOW_NS	  1500
#define BUCKET_NS 100
#define N_BUCKETS 4096 /* what takes longer than 0.4 ms is in the last */

static bool wanted;
static uint64_t buckets[N_BUCKETS], n_slow;

void stopwatch_init(void)
{
	wanted = cmdline_number("time_faults", 0);
}

void stopwatch_touch(const uint64_t *page)
{
	uint64_t begin_ns, took_ns;

	if (!wanted)
		return;
	begin_ns = time_ns();
	(void)*(const volatile uint64_t *)page;
	took_ns = time_ns() - begin_ns;
	if (took_ns < SLOW_NS)
		return;
	buckets[MIN(took_ns / BUCKET_NS, N_BUCKETS - 1)]++;
	n_slow++;
}

static uint64_t percentile_ns(uint64_t percent)
{
	uint64_t below = 0;

	for (uint64_t i = 0; i < N_BUCKETS; i++) {
		below += buckets[i];
		if (below * 100 >= n_slow * percent)
			return i * BUCKET_NS + BUCKET_NS / 2;
	}
	return 0;
}

void stopwatch_report(struct line *line)
{
	if (!wanted)
		return;
	line_value(line, "slow_n", n_slow);
	line_value(line, "slow_p50_ns", n_slow ? percentile_ns(50) : 0);
	line_value(line, "slow_p99_ns", n_slow ? percentile_ns(99) : 0);
}
