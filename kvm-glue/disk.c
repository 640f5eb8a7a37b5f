/*
 * Transfers between a file and memory (disk.h).
 *
 * DOC: alignment
 * Direct I/O wants steps that depend on the file system and the disk. Guests may ask for any sector
 * and any address. What the direct descriptor refuses with EINVAL is done through another one of the
 * same file with the page cache; the kernel keeps the two coherent.
 *
 * A transfer ends when all of it is done: what came short goes on where it stopped.
 *
 * Must never: touch a byte of the file outside of the range it was given.
 */
#include "kvm-glue/disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "kvm-glue/device.h"
#include "memd/base/fd.h"
#include "memd/base/overflow.h"

#define ZERO_BYTES 65536 /* written at a time where the file system cannot zero by itself */

static bool is_write(const struct disk_transfer *t)
{
	return t->operation == DISK_WRITE || t->zeroing;
}

static bool moves_data(const struct disk_transfer *t)
{
	return t->operation == DISK_READ || is_write(t);
}

static int fd_of(const struct disk *d, const struct disk_transfer *t)
{
	return d->direct_fd >= 0 && !t->paged ? d->direct_fd : d->fd;
}

static int write_flags(const struct disk_transfer *t)
{
	return t->durable ? RWF_DSYNC : 0;
}

static int fallocate_mode(const struct disk_transfer *t)
{
	return FALLOC_FL_KEEP_SIZE |
	       (t->operation == DISK_ZERO ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);
}

static void point_at_zeros(struct disk *d, struct disk_transfer *t)
{
	t->iov[0] = (struct iovec){d->zeros, u64_min(t->bytes, ZERO_BYTES)};
	t->next_iov = t->iov;
	t->n_iov = 1;
}

/* n bytes are done. */
static void advance(struct disk *d, struct disk_transfer *t, uint64_t n)
{
	t->offset += n;
	t->bytes -= n;
	if (t->zeroing) {
		point_at_zeros(d, t);
		return;
	}
	while (n > 0) {
		uint64_t part = u64_min(n, t->next_iov->iov_len);

		t->next_iov->iov_base = (uint8_t *)t->next_iov->iov_base + part;
		t->next_iov->iov_len -= part;
		n -= part;
		if (t->next_iov->iov_len == 0) {
			t->next_iov++;
			t->n_iov--;
		}
	}
}

static void put_on_ring(struct disk *d, struct disk_transfer *t, uint64_t tag)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(d->ring);

	assert(sqe); /* the ring has room for all transfers */
	if (is_write(t))
		io_uring_prep_writev2(
			sqe, fd_of(d, t), t->next_iov, t->n_iov, t->offset, write_flags(t));
	else if (t->operation == DISK_READ)
		io_uring_prep_readv(sqe, fd_of(d, t), t->next_iov, t->n_iov, t->offset);
	else if (t->operation == DISK_FLUSH)
		io_uring_prep_fsync(sqe, d->fd, IORING_FSYNC_DATASYNC);
	else
		io_uring_prep_fallocate(
			sqe, d->fd, fallocate_mode(t), (off_t)t->offset, (off_t)t->bytes);
	sqe->user_data = tag;
}

/* The same at once; answers as the ring does. */
static int64_t do_now(struct disk *d, struct disk_transfer *t)
{
	ssize_t r;

	if (is_write(t))
		r = pwritev2(
			fd_of(d, t), t->next_iov, (int)t->n_iov, (off_t)t->offset, write_flags(t));
	else if (t->operation == DISK_READ)
		r = preadv2(fd_of(d, t), t->next_iov, (int)t->n_iov, (off_t)t->offset, 0);
	else if (t->operation == DISK_FLUSH)
		r = fdatasync(d->fd);
	else
		r = fallocate(d->fd, fallocate_mode(t), (off_t)t->offset, (off_t)t->bytes);
	return r < 0 ? -errno : r;
}

#define GOES_ON 1
/* What becomes of a transfer after this answer: GOES_ON, maybe in another way; 0, negative errno. */
static int judge(struct disk *d, struct disk_transfer *t, int64_t result)
{
	if (result == -EINTR || result == -EAGAIN)
		return GOES_ON;
	if (result == -EINVAL && moves_data(t) && d->direct_fd >= 0 && !t->paged) {
		t->paged = true;
		return GOES_ON;
	}
	if (result == -EOPNOTSUPP && t->operation == DISK_DISCARD)
		return 0; /* bytes that stay are right too */
	if (result == -EOPNOTSUPP && !moves_data(t) && t->operation != DISK_FLUSH) {
		t->zeroing = t->paged = true;
		point_at_zeros(d, t);
		return GOES_ON;
	}
	if (result < 0)
		return (int)result;
	if (!moves_data(t))
		return 0;
	if (result == 0)
		return -EIO; /* the file is shorter than it was */
	advance(d, t, u64_min((uint64_t)result, t->bytes));
	return t->bytes > 0 ? GOES_ON : 0;
}

int disk_continue(struct disk *d, struct disk_transfer *t, uint64_t tag, int64_t result)
{
	int r;

	while ((r = judge(d, t, result)) == GOES_ON) {
		if (d->ring) {
			put_on_ring(d, t, tag);
			return DISK_STARTED;
		}
		result = do_now(d, t);
	}
	return r;
}

int disk_start(struct disk *d, struct disk_transfer *t, uint64_t tag)
{
	t->next_iov = t->iov;
	t->paged = t->zeroing = false;
	return disk_continue(d, t, tag, -EAGAIN);
}

bool disk_submit(struct disk *d)
{
	while (d->ring && io_uring_sq_ready(d->ring) > 0) {
		int r = io_uring_submit(d->ring);

		if (r < 0 && r != -EINTR)
			return false;
	}
	return true;
}

bool disk_next(struct disk *d, uint64_t *ret_tag, int64_t *ret_result)
{
	struct io_uring_cqe *cqe;

	if (!d->ring || io_uring_peek_cqe(d->ring, &cqe) != 0)
		return false;
	*ret_tag = cqe->user_data;
	*ret_result = cqe->res;
	io_uring_cqe_seen(d->ring, cqe);
	return true;
}

void disk_wait(struct disk *d)
{
	if (d->ring)
		io_uring_submit_and_wait(d->ring, 1);
}

int disk_fd(const struct disk *d)
{
	return d->ring ? d->ring->ring_fd : -1;
}

int disk_use_ring(struct disk *d, unsigned n_transfers)
{
	struct io_uring *ring = calloc(1, sizeof(*ring));
	int r = ring ? io_uring_queue_init(n_transfers, ring, 0) : -ENOMEM;

	if (r < 0)
		free(ring);
	else
		d->ring = ring;
	return r;
}

static int parse(const char *spec, struct disk *d, char *ret_path, size_t size, bool *ret_direct,
	struct error *e)
{
	struct device_spec_word w;
	uint64_t n;
	int r = device_spec_first(spec, ret_path, size, e);

	while (r >= 0 && (r = device_spec_next(&spec, &w, e)) > 0) {
		if (strcmp(w.text, "ro") == 0 && !w.value) {
			d->read_only = true;
		} else if (strcmp(w.text, "direct") == 0 && !w.value) {
			*ret_direct = true;
		} else if (strcmp(w.text, "queues") == 0) {
			r = device_spec_number(&w, 1, DISK_QUEUES_MAX, &n, e);
			if (r == 0)
				d->n_queues = (unsigned)n;
		} else if (strcmp(w.text, "serial") != 0 || !w.value) {
			r = device_spec_unknown(&w, "ro, direct, queues=N, serial=TEXT", e);
		} else if (strlen(w.value) > DISK_SERIAL_BYTES) {
			r = error_set(e, -EINVAL, "a serial number has at most %d characters",
				DISK_SERIAL_BYTES);
		} else {
			strcpy(d->serial, w.value);
		}
	}
	return r;
}

/* Opens and locks the file and finds out how large it is. */
static int open_paged(struct disk *d, const char *path, struct error *e)
{
	int flags = (d->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	struct stat st;

	d->fd = open(path, flags);
	/* Not waiting is for the open of what is no disk; on the ring it would mean EAGAIN. */
	if (d->fd < 0 || fstat(d->fd, &st) < 0 || fd_set_nonblock(d->fd, false) < 0)
		return error_set(e, -errno, "%s", strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return error_set(e, -EINVAL, "neither a file nor a block device");
	if (flock(d->fd, (d->read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0)
		return error_set(e, -errno, "%s",
			errno == EWOULDBLOCK ? "another guest uses it; a disk is for one guest, or "
					       "`ro` in all of them"
					     : strerror(errno));
	d->capacity_bytes = (uint64_t)st.st_size;
	if (S_ISBLK(st.st_mode) && ioctl(d->fd, BLKGETSIZE64, &d->capacity_bytes) < 0)
		return error_set(e, -errno, "its size: %s", strerror(errno));
	d->capacity_bytes -= d->capacity_bytes % DISK_SECTOR_BYTES;
	if (d->capacity_bytes == 0)
		return error_set(e, -EINVAL, "it has no sector of %d bytes", DISK_SECTOR_BYTES);
	return 0;
}

/* The same file once more, past the page cache. */
static int open_direct(struct disk *d, struct error *e)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", d->fd);
	d->direct_fd = open(path, (d->read_only ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
	if (d->direct_fd < 0)
		return error_set(e, -errno, "%s",
			errno == EINVAL ? "its file system has no direct I/O; leave out `direct`"
					: strerror(errno));
	return 0;
}

int disk_open(const char *spec, struct disk **ret, struct error *e)
{
	_cleanup_(disk_freep) struct disk *d = calloc(1, sizeof(*d));
	char path[4096];
	bool direct = false;
	const char *name;
	int r;

	if (!d)
		return error_set(e, -ENOMEM, "out of memory");
	d->fd = d->direct_fd = -1;
	d->n_queues = 1;
	d->zeros = calloc(1, ZERO_BYTES);
	if (!d->zeros)
		return error_set(e, -ENOMEM, "out of memory");
	r = parse(spec, d, path, sizeof(path), &direct, e);
	if (r >= 0)
		r = open_paged(d, path, e);
	if (r >= 0 && direct)
		r = open_direct(d, e);
	if (r < 0)
		return r;
	name = strrchr(path, '/');
	if (!d->serial[0])
		snprintf(d->serial, sizeof(d->serial), "%.20s", name ? name + 1 : path);
	*ret = TAKE_PTR(d);
	return 0;
}

void disk_free(struct disk *d)
{
	if (!d)
		return;
	if (d->ring)
		io_uring_queue_exit(d->ring);
	free(d->ring);
	cleanup_closep(&d->fd);
	cleanup_closep(&d->direct_fd);
	free(d->zeros);
	free(d);
}

const int disk_calls[] = {
	SYS_io_uring_enter,
	/* without io_uring */
	SYS_preadv2,
	SYS_pwritev2,
	SYS_fdatasync,
	SYS_fallocate,
	-1,
};
