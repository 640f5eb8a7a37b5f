/* See history-file.h. */
#include "memd/base/history-file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "memd/base/cleanup.h"
#include "memd/base/fd.h"
#include "memd/base/overflow.h"

#define MINUTE_S 60
/* Records read at once. */
#define BATCH	 1024

static const char magic[8] = {'m', 'e', 'm', 'd', 'h', 'i', 's', 't'};

struct header {
	char magic[8];
	uint32_t version;
	uint32_t record_bytes;
	uint32_t n_seconds;
	uint32_t n_minutes;
	uint8_t reserved[40];
};
_Static_assert(sizeof(struct header) == 64, "the format on disk");

/* One of the two rings. */
struct ring {
	off_t offset;
	uint64_t n;
	uint64_t step_s;
};

static const struct ring seconds = {
	.offset = sizeof(struct header),
	.n = HISTORY_SECONDS,
	.step_s = 1,
};
static const struct ring minutes = {
	.offset = sizeof(struct header) + HISTORY_SECONDS * sizeof(struct history_record),
	.n = HISTORY_MINUTES,
	.step_s = MINUTE_S,
};

static struct header header_now(void)
{
	struct header h = {
		.version = 1,
		.record_bytes = sizeof(struct history_record),
		.n_seconds = HISTORY_SECONDS,
		.n_minutes = HISTORY_MINUTES,
	};

	memcpy(h.magic, magic, sizeof(magic));
	return h;
}

static bool is_ours(int fd)
{
	const struct header now = header_now();
	struct header h;

	return fd_pread_full(fd, &h, sizeof(h), 0) == 0 && memcmp(&h, &now, sizeof(h)) == 0;
}

int history_file_open(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	const struct header h = header_now();
	off_t size = minutes.offset + (off_t)(minutes.n * sizeof(struct history_record));
	int r = 0;

	if (fd < 0)
		return -errno;
	if (is_ours(fd))
		return TAKE_FD(fd);
	/* All of the former goes; the rest is a hole, and reads as records without a time. */
	if (ftruncate(fd, 0) < 0 || ftruncate(fd, size) < 0)
		return -errno;
	r = fd_pwrite_full(fd, &h, sizeof(h), 0);
	return r < 0 ? r : TAKE_FD(fd);
}

static off_t place_of(const struct ring *ring, uint64_t time_s)
{
	uint64_t place = time_s / ring->step_s % ring->n;

	return ring->offset + (off_t)(place * sizeof(struct history_record));
}

static int put(int fd, const struct ring *ring, const struct history_record *r)
{
	if (r->time_s == 0)
		return -EINVAL;
	return fd_pwrite_full(fd, r, sizeof(*r), place_of(ring, r->time_s));
}

int history_file_put_second(int fd, const struct history_record *r)
{
	return put(fd, &seconds, r);
}

int history_file_put_minute(int fd, const struct history_record *r)
{
	return put(fd, &minutes, r);
}

/* Reads n places from that of time_s on, which do not pass the end of the ring. */
static int read_places(
	int fd, const struct ring *ring, uint64_t time_s, size_t n, struct history_record *records)
{
	return fd_pread_full(fd, records, n * sizeof(*records), place_of(ring, time_s));
}

/* How many places from that of time_s may be read at once. */
static size_t places_together(const struct ring *ring, uint64_t time_s, uint64_t to_s)
{
	uint64_t n = (to_s - time_s) / ring->step_s + 1;

	n = u64_min(n, ring->n - time_s / ring->step_s % ring->n);
	return (size_t)u64_min(n, BATCH);
}

int history_file_read(int fd, uint64_t from_s, uint64_t to_s, uint32_t step_s, uint64_t now_s,
	struct history_record **ret, size_t *ret_n, struct error *e)
{
	const struct ring *ring = step_s >= MINUTE_S ? &minutes : &seconds;
	_cleanup_free_ struct history_record *records = NULL;
	uint64_t oldest_s = u64_sub_or_zero(now_s, (ring->n - 1) * ring->step_s);
	size_t n = 0;

	if (!is_ours(fd))
		return error_set(e, -EPROTO, "this is no history of this version of memd");
	from_s = u64_max(from_s, oldest_s) / ring->step_s * ring->step_s;
	to_s = u64_min(to_s, now_s);
	if (from_s <= to_s)
		records = calloc((to_s - from_s) / ring->step_s + 1, sizeof(*records));
	if (from_s <= to_s && !records)
		return -ENOMEM;
	while (from_s <= to_s) {
		size_t many = places_together(ring, from_s, to_s), kept = 0;
		int r = read_places(fd, ring, from_s, many, records + n);

		if (r < 0)
			return error_set(e, r, "cannot read the history: %s", strerror(-r));
		/* A place may hold what was there a round ago. */
		for (size_t i = 0; i < many; i++)
			if (records[n + i].time_s / ring->step_s * ring->step_s ==
				from_s + i * ring->step_s)
				records[n + kept++] = records[n + i];
		n += kept;
		from_s += many * ring->step_s;
	}
	*ret = TAKE_PTR(records);
	*ret_n = n;
	return 0;
}

/* The averages are of these; all others are treated apart. */
static const size_t averaged[] = {
	offsetof(struct history_record, configured_kib),
	offsetof(struct history_record, target_kib),
	offsetof(struct history_record, resident_kib),
	offsetof(struct history_record, private_kib),
	offsetof(struct history_record, shared_kib),
	offsetof(struct history_record, swapped_kib),
	offsetof(struct history_record, balloon_kib),
};

static uint32_t get_u32(const struct history_record *r, size_t offset)
{
	uint32_t v;

	memcpy(&v, (const char *)r + offset, sizeof(v));
	return v;
}

static void average_working_set(
	struct history_record *a, const struct history_record *records, size_t n)
{
	uint64_t set = 0, error = 0, known = 0;

	for (size_t i = 0; i < n; i++) {
		if (records[i].working_set_kib == HISTORY_UNKNOWN)
			continue;
		set += records[i].working_set_kib;
		error += records[i].working_set_error_kib;
		known++;
	}
	a->working_set_kib = known ? (uint32_t)(set / known) : HISTORY_UNKNOWN;
	a->working_set_error_kib = known ? (uint32_t)(error / known) : HISTORY_UNKNOWN;
}

struct history_record history_average(const struct history_record *records, size_t n)
{
	struct history_record a = {.time_s = records[0].time_s};
	uint64_t refaults = 0;

	for (size_t f = 0; f < ARRAY_SIZE(averaged); f++) {
		uint64_t sum = 0;
		uint32_t v;

		for (size_t i = 0; i < n; i++)
			sum += get_u32(&records[i], averaged[f]);
		v = (uint32_t)(sum / n);
		memcpy((char *)&a + averaged[f], &v, sizeof(v));
	}
	for (size_t i = 0; i < n; i++) {
		const struct history_record *r = &records[i];

		refaults += r->refault_kib;
		a.stall_some_bp =
			r->stall_some_bp > a.stall_some_bp ? r->stall_some_bp : a.stall_some_bp;
		a.stall_full_bp =
			r->stall_full_bp > a.stall_full_bp ? r->stall_full_bp : a.stall_full_bp;
	}
	a.refault_kib = (uint32_t)u64_min(refaults, UINT32_MAX);
	average_working_set(&a, records, n);
	return a;
}
