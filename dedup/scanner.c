/*
 * The scanner's thread: when to scan, how much, how fast. What is done with a page is scan.c's.
 *
 * DOC: pace
 *
 * Two limits, whichever is slower. CPU: a bucket of thread CPU time that fills with max_cpu_bp of
 * the time that passes and holds at most BURST_US; each batch takes out what it cost, and while the
 * bucket is empty the thread sleeps. Time: pages of a pass are due evenly over target_time_us. A
 * pass that found next to nothing changed (a guest that runs always changes a few pages) is followed
 * by a rest that doubles up to REST_MAX_US, so that a quiet guest costs next to nothing. Notifications of the pool (a page that this guest offered has
 * arrived) are worth most and are served at once, as far as the CPU limit allows.
 */
#include "dedup/scanner.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include "dedup/scan.h"
#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/overflow.h"

#define BURST_US	 20000
#define REST_MIN_US	 US_PER_MS
#define REST_MAX_US	 (5 * US_PER_S)
#define QUIET_PART	 64 /* of what was hashed: fewer changes are next to nothing */
#define FOREVER_US	 (3600 * US_PER_S)
#define BP_ONE		 10000
#define MAP_COUNT	 65530 /* the kernel's default of vm.max_map_count */
/* Left to libraries, stacks, pool files, and to holes that discards make in pool mappings. */
#define MAP_COUNT_OTHERS 8192

struct scanner {
	struct guest_ram *ram;
	pthread_t thread;
	int wake_fd; /* eventfd: something below has changed */
	int own_pidfd; /* for the pool: opened before the sandbox closes */

	pthread_mutex_t lock; /* what follows, up to the next comment */
	struct scanner_settings settings;
	struct scanner_stats stats;
	int pool_fd; /* to be attached; -1: nothing new */
	bool stop;

	/* the thread's own */
	struct scan *scan;
	uint64_t next_page;
	uint64_t pass_start_us; /* in the future: a rest */
	uint64_t rest_us; /* after the last pass */
	uint64_t changes, hashed; /* that had been seen when the pass began */
	int64_t cpu_left; /* the bucket, in microseconds / BP_ONE; negative: overdrawn */
	uint64_t cpu_filled_us; /* when it was filled last */
};

uint64_t scanner_mappings_max(void)
{
	_cleanup_free_ char *text = NULL;
	uint64_t max = MAP_COUNT;
	size_t size;

	if (fd_read_file_at(AT_FDCWD, "/proc/sys/vm/max_map_count", 32, &text, &size) == 0)
		max = strtoull(text, NULL, 10);
	return u64_sub_or_zero(max, MAP_COUNT_OTHERS);
}

static void fill_bucket(struct scanner *s, uint32_t max_cpu_bp, uint64_t now_us)
{
	uint64_t passed_us = u64_min(now_us - s->cpu_filled_us, US_PER_S);

	s->cpu_filled_us = now_us;
	s->cpu_left += (int64_t)(passed_us * max_cpu_bp);
	if (s->cpu_left > BURST_US * BP_ONE)
		s->cpu_left = BURST_US * BP_ONE;
}

static uint64_t us_until_cpu(const struct scanner *s, uint32_t max_cpu_bp)
{
	if (s->cpu_left > 0)
		return 0;
	return max_cpu_bp ? (uint64_t)-s->cpu_left / max_cpu_bp + 1 : FOREVER_US;
}

static uint64_t us_until_due(const struct scanner *s, uint64_t target_time_us, uint64_t now_us)
{
	uint64_t share_us = (uint64_t)((unsigned __int128)target_time_us * s->next_page /
				       guest_ram_pages(s->ram));

	return u64_sub_or_zero(s->pass_start_us + share_us, now_us);
}

/* Sleeps until it is over, somebody wakes us, or, if asked, the pool says something: true then. */
static bool nap(struct scanner *s, uint64_t us, bool listen_to_pool)
{
	const bool listen = listen_to_pool && s->scan->pool;
	struct pollfd p[2] = {
		{.fd = s->wake_fd, .events = POLLIN},
		{.fd = listen ? pool_client_fd(s->scan->pool) : -1, .events = POLLIN},
	};
	const struct timespec t = {
		.tv_sec = (time_t)(us / US_PER_S), .tv_nsec = (long)(us % US_PER_S * 1000)};
	uint64_t count;

	if (ppoll(p, 2, &t, NULL) <= 0)
		return false;
	if (p[0].revents && read(s->wake_fd, &count, sizeof(count)) < 0)
		return false; /* somebody was faster: it is non-blocking */
	return p[1].revents;
}

static void begin_pass(struct scanner *s, uint64_t now_us)
{
	uint64_t changed = s->scan->changes - s->changes,
		 hashed = s->scan->stats.pages_hashed - s->hashed;

	if (changed > hashed / QUIET_PART)
		s->rest_us = 0;
	else
		s->rest_us = u64_min(u64_max(2 * s->rest_us, REST_MIN_US), REST_MAX_US);
	s->changes = s->scan->changes;
	s->hashed = s->scan->stats.pages_hashed;
	s->pass_start_us = now_us + s->rest_us;
	s->next_page = 0;
	s->scan->stats.passes++;
}

static void scan_batch(struct scanner *s, const struct scanner_settings *settings)
{
	uint64_t n = u64_min(SCAN_BATCH_PAGES, guest_ram_pages(s->ram) - s->next_page);

	scan_pages(s->scan, s->next_page, n, settings->mode);
	s->next_page += n;
}

/* One batch, one round of notifications, or one nap. */
static void turn(struct scanner *s, const struct scanner_settings *settings)
{
	const bool sharing = settings->mode == SCANNER_SHARE;
	uint64_t now_us = clock_monotonic_us(), cpu_us = clock_thread_cpu_us(), wait_us;
	bool told;

	fill_bucket(s, settings->max_cpu_bp, now_us);
	wait_us = us_until_cpu(s, settings->max_cpu_bp);
	if (wait_us) {
		nap(s, wait_us, false);
		return;
	}
	if (s->next_page == guest_ram_pages(s->ram))
		begin_pass(s, now_us);
	wait_us = us_until_due(s, settings->target_time_us, now_us);
	/* What came with an answer, or was more than one batch, does not show at the socket. */
	told = sharing && s->scan->pool && pool_client_has_notify(s->scan->pool);
	if (!told)
		told = nap(s, wait_us, sharing);
	if (told && sharing)
		scan_notified(s->scan);
	else if (wait_us == 0)
		scan_batch(s, settings);
	cpu_us = clock_thread_cpu_us() - cpu_us;
	s->cpu_left -= (int64_t)(cpu_us * BP_ONE);
	s->scan->stats.cpu_us += cpu_us;
}

static void attach(struct scanner *s, int fd)
{
	(void)scan_join_pool(s->scan, fd, s->own_pidfd); /* memd sees, and connects us again */
	/* To the new pool every page is new. */
	memset(s->scan->checksums, 0, guest_ram_pages(s->ram) * sizeof(*s->scan->checksums));
}

static void *scanner_main(void *arg)
{
	struct scanner *s = arg;

	prctl(PR_SET_NAME, "memd-scan");
	for (;;) {
		struct scanner_settings settings;
		int fd = -1;
		bool stop;

		pthread_mutex_lock(&s->lock);
		s->stats = s->scan->stats;
		settings = s->settings;
		stop = s->stop;
		if (!stop)
			fd = TAKE_FD(s->pool_fd);
		pthread_mutex_unlock(&s->lock);

		if (stop)
			break;
		if (fd >= 0)
			attach(s, fd);
		else if (settings.mode == SCANNER_OFF || !guest_ram_can_freeze(s->ram))
			nap(s, FOREVER_US, false);
		else
			turn(s, &settings);
	}
	return NULL;
}

int scanner_new(
	struct guest_ram *ram, uint64_t mappings_max, struct scanner **ret, struct error *e)
{
	struct scanner *s = calloc(1, sizeof(*s));
	sigset_t all, before;
	int r;

	if (!s)
		return error_set(e, -ENOMEM, "no memory for the scanner");
	s->ram = ram;
	s->pool_fd = -1;
	s->next_page = guest_ram_pages(ram); /* the first turn begins a pass */
	s->cpu_filled_us = clock_monotonic_us();
	pthread_mutex_init(&s->lock, NULL);
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = s->wake_fd < 0 ? -errno : 0;
	s->own_pidfd = r == 0 ? fd_pidfd_open(getpid()) : -1;
	if (r == 0 && s->own_pidfd < 0)
		r = s->own_pidfd;
	if (r == 0)
		r = scan_new(ram, mappings_max, &s->scan);
	if (r == 0) {
		/* Signals are for the threads that asked for them. */
		sigfillset(&all);
		pthread_sigmask(SIG_BLOCK, &all, &before);
		r = -pthread_create(&s->thread, NULL, scanner_main, s);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	if (r < 0) {
		scan_free(s->scan);
		cleanup_closep(&s->own_pidfd);
		cleanup_closep(&s->wake_fd);
		pthread_mutex_destroy(&s->lock);
		free(s);
		return error_set(e, r, "cannot start the scanner: %s", strerror(-r));
	}
	*ret = s;
	return 0;
}

static void wake(const struct scanner *s)
{
	const uint64_t one = 1;

	/* Fails only when it is full, that is, when a wake-up waits already. */
	if (write(s->wake_fd, &one, sizeof(one)) < 0)
		return;
}

void scanner_free(struct scanner *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_mutex_unlock(&s->lock);
	wake(s);
	pthread_join(s->thread, NULL);
	scan_free(s->scan);
	cleanup_closep(&s->pool_fd);
	cleanup_closep(&s->own_pidfd);
	cleanup_closep(&s->wake_fd);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void scanner_set(struct scanner *s, const struct scanner_settings *settings)
{
	pthread_mutex_lock(&s->lock);
	s->settings = *settings;
	pthread_mutex_unlock(&s->lock);
	wake(s);
}

void scanner_attach_pool(struct scanner *s, int fd)
{
	pthread_mutex_lock(&s->lock);
	cleanup_closep(&s->pool_fd);
	s->pool_fd = fd;
	pthread_mutex_unlock(&s->lock);
	wake(s);
}

void scanner_stats_read(struct scanner *s, struct scanner_stats *ret)
{
	pthread_mutex_lock(&s->lock);
	*ret = s->stats;
	pthread_mutex_unlock(&s->lock);
}
