/*
 * See journal.h. The event loop owns `struct journal`; the file itself belongs to the worker's jobs,
 * of which one runs at a time.
 */
#include "memd/journal.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/log.h"
#include "memd/base/overflow.h"

/* What may wait for the disk. */
#define PENDING_BYTES_MAX (UINT64_C(16) << 20)
/* So that a file that begins in the middle says soon by which policy. */
#define POLICY_EVERY	  100
#define FILE_MODE	  0640

/* Of the worker's jobs only, after journal_open. */
struct journal_file {
	char *path, *old_path;
	int fd;
	uint64_t bytes;
};

struct journal {
	struct worker *worker;
	struct journal_file file;
	uint64_t max_bytes;
	uint64_t pending_bytes;
	uint64_t dropped;
	uint8_t *policy;
	size_t policy_bytes;
	unsigned ticks_since_policy;
	struct log_ratelimit limit;
};

struct write_job {
	struct job job;
	struct journal *journal;
	uint64_t file_bytes_max;
	int result;
	size_t n;
	uint8_t bytes[];
};

static int begin_file(struct journal_file *f)
{
	struct journal_file_header header = {
		.magic = JOURNAL_MAGIC,
		.version = JOURNAL_VERSION,
		.header_bytes = sizeof(header),
		.created_us = clock_realtime_us(),
	};
	_cleanup_close_ int fd =
		open(f->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
	int r;

	if (fd < 0)
		return -errno;
	r = fd_pwrite_full(fd, &header, sizeof(header), 0);
	if (r < 0)
		return r;
	cleanup_closep(&f->fd);
	f->fd = TAKE_FD(fd);
	f->bytes = u64_align_up(sizeof(header), JOURNAL_ALIGN);
	return 0;
}

/* 1: the file can be continued. */
static int continue_file(struct journal_file *f)
{
	_cleanup_close_ int fd = open(f->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	struct journal_file_header header;
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (fd_pread_full(fd, &header, sizeof(header), 0) < 0 || header.magic != JOURNAL_MAGIC ||
		header.version != JOURNAL_VERSION)
		return 0;
	/* A frame that was cut short stays as it is: readers pass over it. */
	f->bytes = u64_align_up((uint64_t)st.st_size, JOURNAL_ALIGN);
	f->fd = TAKE_FD(fd);
	return 1;
}

static int rotate(struct journal_file *f)
{
	if (rename(f->path, f->old_path) < 0 && errno != ENOENT)
		return -errno;
	return begin_file(f);
}

/* In the worker. */
static void run_write(struct job *job)
{
	struct write_job *w = (struct write_job *)job;
	struct journal_file *f = &w->journal->file;

	w->result = 0;
	if (f->bytes + w->n > w->file_bytes_max && f->bytes > sizeof(struct journal_file_header))
		w->result = rotate(f);
	if (w->result == 0)
		w->result = fd_pwrite_full(f->fd, w->bytes, w->n, (off_t)f->bytes);
	/* What was written in part is written over by the next. */
	if (w->result == 0)
		f->bytes += w->n;
}

static void write_done(struct job *job)
{
	struct write_job *w = (struct write_job *)job;
	struct journal *j = w->journal;

	j->pending_bytes -= w->n;
	if (w->result < 0) {
		j->dropped++;
		if (log_ratelimit_pass(&j->limit))
			log_warning("cannot write %s: %s; this tick is not in it", j->file.path,
				strerror(-w->result));
	}
	free(w);
}

static void submit(struct journal *j, const uint8_t *bytes, size_t n)
{
	struct write_job *w = NULL;

	if (j->pending_bytes + n <= PENDING_BYTES_MAX)
		w = malloc(sizeof(*w) + n);
	if (!w) {
		j->dropped++;
		return;
	}
	*w = (struct write_job){
		.job = {.run = run_write, .done = write_done},
		.journal = j,
		.file_bytes_max = j->max_bytes / 2,
		.n = n,
	};
	memcpy(w->bytes, bytes, n);
	j->pending_bytes += n;
	worker_submit(j->worker, &w->job);
}

static int open_file(struct journal_file *f, const char *directory)
{
	int r;

	f->fd = -1;
	if (asprintf(&f->path, "%s/journal", directory) < 0 ||
		asprintf(&f->old_path, "%s/journal.old", directory) < 0)
		return -ENOMEM;
	r = fd_mkdir_parents(directory, 0700);
	if (r == 0)
		r = continue_file(f);
	if (r == 0)
		r = rotate(f);
	return r < 0 ? r : 0;
}

int journal_open(sd_event *event, const char *directory, uint64_t max_bytes, struct journal **ret,
	struct error *e)
{
	_cleanup_(journal_closep) struct journal *j = calloc(1, sizeof(*j));
	int r;

	if (!j)
		return -ENOMEM;
	j->limit = (struct log_ratelimit)LOG_RATELIMIT_INIT;
	j->max_bytes = max_bytes;
	r = open_file(&j->file, directory);
	if (r == 0)
		r = worker_new(event, "memd-journal", &j->worker);
	if (r < 0)
		return error_set(
			e, r, "there is no decision journal in %s: %s", directory, strerror(-r));
	*ret = TAKE_PTR(j);
	return 0;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	worker_free(j->worker);
	cleanup_closep(&j->file.fd);
	free(j->file.path);
	free(j->file.old_path);
	free(j->policy);
	free(j);
}

void journal_write_policy(struct journal *j, const struct journal_policy_record *policy)
{
	uint8_t *frame;
	size_t n;

	if (!j || journal_encode_policy(policy, &frame, &n) < 0)
		return;
	free(j->policy);
	j->policy = frame;
	j->policy_bytes = n;
	j->ticks_since_policy = 0;
	submit(j, frame, n);
}

void journal_write_tick(struct journal *j, const uint8_t *frame, size_t bytes)
{
	if (!j)
		return;
	if (j->policy && ++j->ticks_since_policy >= POLICY_EVERY) {
		j->ticks_since_policy = 0;
		submit(j, j->policy, j->policy_bytes);
	}
	submit(j, frame, bytes);
}

void journal_set_max(struct journal *j, uint64_t max_bytes)
{
	if (j)
		j->max_bytes = max_bytes;
}

const char *journal_path(const struct journal *j)
{
	return j ? j->file.path : "";
}

uint64_t journal_dropped(const struct journal *j)
{
	return j ? j->dropped : 0;
}

static bool same_file(int a, int b)
{
	struct stat st_a, st_b;

	return fstat(a, &st_a) == 0 && fstat(b, &st_b) == 0 && st_a.st_ino == st_b.st_ino;
}

int journal_open_files(const struct journal *j, int ret_fds[2])
{
	_cleanup_close_ int now = open(j->file.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_close_ int old = -1;

	if (now < 0)
		return -errno;
	old = open(j->file.old_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (old < 0 && errno != ENOENT)
		return -errno;
	/* The worker may have turned the one into the other meanwhile. */
	ret_fds[0] = old >= 0 && !same_file(now, old) ? TAKE_FD(old) : -1;
	ret_fds[1] = TAKE_FD(now);
	return 0;
}
