/*
 * Questions and answers on a non-blocking socket. While it waits, for an answer or for room to ask,
 * it takes in whatever the pool says: two ends that both wait for room would wait for ever.
 */
#include "dedup/pool-client.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/ipc.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"

#define TIMEOUT_US	(10 * US_PER_S) /* a pool that is silent that long is gone for us */
#define FILES_MAX	(UINT32_C(1) << 15)
#define FILE_BYTES	(POOL_FILE_PAGES * PAGE_BYTES)
#define NOTIFY_KEEP_MAX 65536 /* what is more is found in the next pass */

struct client_file {
	int fd; /* read-only */
	const uint8_t *pages; /* mapped shared, to compare with */
	dev_t device; /* with inode: which file it is */
	ino_t inode;
	uint32_t index; /* of the pool that we are connected to; UINT32_MAX: it has not got it */
};

struct pool_files {
	struct client_file *files;
	size_t n;
};

struct pool_client {
	int fd;
	uint32_t seq;
	bool can_restore;
	struct pool_files *files; /* the caller's */
	uint32_t *ours; /* our number of the pool's file i */
	size_t n_theirs;
	struct pool_notify *notify;
	size_t n_notify;
	struct ipc_message *message; /* what was received last */
	struct {
		struct pool_insert header;
		uint8_t pages[POOL_INSERT_MAX][PAGE_BYTES];
	} insert;
};

struct pool_files *pool_files_new(void)
{
	return calloc(1, sizeof(struct pool_files));
}

void pool_files_free(struct pool_files *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < f->n; i++) {
		munmap((void *)(uintptr_t)f->files[i].pages, FILE_BYTES);
		cleanup_closep(&f->files[i].fd);
	}
	free(f->files);
	free(f);
}

/* A file that cannot become smaller under our mapping: reading it never ends in SIGBUS. */
static bool is_sound_file(int fd, struct stat *ret)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & F_SEAL_SHRINK) && fstat(fd, ret) == 0 &&
	       ret->st_size == (off_t)FILE_BYTES;
}

/* Adds the file, which is taken over, or finds that it is there. */
static int keep_file(struct pool_files *f, int *fd, const struct stat *st, uint32_t *ret_number)
{
	struct client_file *files;
	void *pages;

	for (uint32_t i = 0; i < f->n; i++)
		if (f->files[i].device == st->st_dev && f->files[i].inode == st->st_ino) {
			*ret_number = i;
			return f->files[i].index == UINT32_MAX ? 0 : -EPROTO;
		}
	if (f->n == FILES_MAX)
		return -EPROTO;
	files = reallocarray(f->files, f->n + 1, sizeof(*files));
	if (!files)
		return -ENOMEM;
	f->files = files;
	pages = mmap(NULL, FILE_BYTES, PROT_READ, MAP_SHARED, *fd, 0);
	if (pages == MAP_FAILED)
		return -errno;
	*ret_number = (uint32_t)f->n;
	files[f->n++] = (struct client_file){
		.fd = TAKE_FD(*fd),
		.pages = pages,
		.device = st->st_dev,
		.inode = st->st_ino,
	};
	return 0;
}

static int on_file(struct pool_client *c, struct ipc_message *m)
{
	const struct pool_file *announced = IPC_PAYLOAD(m, struct pool_file);
	uint32_t *ours, number;
	struct stat st;
	int r;

	if (!announced || m->n_fds != 1 || announced->index != c->n_theirs ||
		c->n_theirs == FILES_MAX || !is_sound_file(m->fds[0], &st))
		return -EPROTO;
	ours = reallocarray(c->ours, c->n_theirs + 1, sizeof(*ours));
	if (!ours)
		return -ENOMEM;
	c->ours = ours;
	r = keep_file(c->files, &m->fds[0], &st, &number);
	if (r < 0)
		return r;
	c->files->files[number].index = (uint32_t)c->n_theirs;
	ours[c->n_theirs++] = number;
	return 0;
}

static int on_notify(struct pool_client *c, const struct ipc_message *m)
{
	size_t n = m->header.size / sizeof(struct pool_notify);

	if (m->header.size % sizeof(struct pool_notify) || n > POOL_NOTIFY_MAX || m->n_fds)
		return -EPROTO;
	n = u64_min(n, NOTIFY_KEEP_MAX - c->n_notify);
	memcpy(c->notify + c->n_notify, m->payload, n * sizeof(*c->notify));
	c->n_notify += n;
	return 0;
}

#define ANSWERED 1
/*
 * Receives one message. 0: something unasked, or nothing there; ANSWERED: the answer of that type
 * to our last question.
 */
static int receive(struct pool_client *c, uint16_t answer_type)
{
	int r = ipc_recv(c->fd, c->message);

	if (r == -EAGAIN)
		return 0;
	if (r < 0)
		return r;
	if (r == IPC_CLOSED)
		return -EPIPE;
	if (c->message->header.type == POOL_FILE)
		return on_file(c, c->message);
	if (c->message->header.type == POOL_NOTIFY)
		return on_notify(c, c->message);
	if (c->message->header.type != answer_type || c->message->header.seq != c->seq ||
		c->message->n_fds)
		return -EPROTO;
	return ANSWERED;
}

/* Waits until there is something to read, or room to write. */
static int wait_for(const struct pool_client *c, short events, uint64_t deadline_us)
{
	struct pollfd p = {.fd = c->fd, .events = events};
	uint64_t now_us = clock_monotonic_us();

	if (now_us >= deadline_us)
		return -ETIMEDOUT;
	if (poll(&p, 1, (int)((deadline_us - now_us) / US_PER_MS) + 1) < 0 && errno != EINTR)
		return -errno;
	return 0;
}

/* pidfd: goes with the message; -1 for none. */
static int send_all(
	struct pool_client *c, uint16_t type, const void *payload, size_t size, int pidfd)
{
	uint64_t deadline_us = clock_monotonic_us() + TIMEOUT_US;
	int r;

	c->seq++;
	while ((r = ipc_send_patiently(c->fd, type, c->seq, payload, size, &pidfd, pidfd >= 0,
			TIMEOUT_US)) == -EAGAIN) {
		r = wait_for(c, POLLIN | POLLOUT, deadline_us);
		if (r == 0)
			r = receive(c, 0);
		if (r < 0)
			return r;
	}
	return r;
}

static int await_answer(struct pool_client *c, uint16_t answer_type, size_t answer_size)
{
	uint64_t deadline_us = clock_monotonic_us() + TIMEOUT_US;
	int r = 0;

	while (r == 0) {
		r = wait_for(c, POLLIN, deadline_us);
		if (r == 0)
			r = receive(c, answer_type);
	}
	if (r < 0)
		return r;
	return c->message->header.size == answer_size ? 0 : -EPROTO;
}

static int ask(struct pool_client *c, uint16_t type, const void *payload, size_t size,
	uint16_t answer_type, size_t answer_size)
{
	int r = send_all(c, type, payload, size, -1);

	return r < 0 ? r : await_answer(c, answer_type, answer_size);
}

static int join(struct pool_client *c, int pidfd, uint32_t n_pages)
{
	const struct pool_join request = {.proto_version = POOL_PROTO_VERSION, .n_pages = n_pages};
	const struct pool_welcome *welcome;
	int r = send_all(c, POOL_JOIN, &request, sizeof(request), pidfd);

	if (r == 0)
		r = await_answer(c, POOL_WELCOME, sizeof(*welcome));
	if (r < 0)
		return r;
	welcome = (const struct pool_welcome *)(const void *)c->message->payload;
	c->can_restore = welcome->features & POOL_FEATURE_RESTORE;
	return welcome->proto_version == POOL_PROTO_VERSION ? 0 : -EPROTO;
}

int pool_client_new(
	int fd, int pidfd, uint32_t n_pages, struct pool_files *files, struct pool_client **ret)
{
	_cleanup_(pool_client_freep) struct pool_client *c = calloc(1, sizeof(*c));
	int r;

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->fd = fd;
	c->files = files;
	for (size_t i = 0; i < files->n; i++)
		files->files[i].index = UINT32_MAX;
	c->message = ipc_message_new();
	c->notify = calloc(NOTIFY_KEEP_MAX, sizeof(*c->notify));
	if (!c->message || !c->notify)
		return -ENOMEM;
	r = fd_set_nonblock(fd, true);
	if (r == 0)
		r = join(c, pidfd, n_pages);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

void pool_client_free(struct pool_client *c)
{
	if (!c)
		return;
	free(c->ours);
	free(c->notify);
	ipc_message_free(c->message);
	cleanup_closep(&c->fd);
	free(c);
}

/*
 * The pool's slots in our numbers: slots in a file that we have, or one of the two that are none.
 * ret_slots is as it was unless all make sense.
 */
static int take_slots(
	const struct pool_client *c, size_t n, bool hinted_allowed, uint32_t *ret_slots)
{
	const uint32_t *slots = (const uint32_t *)(const void *)c->message->payload;

	for (size_t i = 0; i < n; i++)
		if (slots[i] / POOL_FILE_PAGES >= c->n_theirs && slots[i] != POOL_SLOT_NONE &&
			!(hinted_allowed && slots[i] == POOL_SLOT_HINTED))
			return -EPROTO;
	for (size_t i = 0; i < n; i++)
		ret_slots[i] = slots[i] >= POOL_SLOT_HINTED
				       ? slots[i]
				       : c->ours[slots[i] / POOL_FILE_PAGES] * POOL_FILE_PAGES +
						 slots[i] % POOL_FILE_PAGES;
	return 0;
}

int pool_client_lookup(
	struct pool_client *c, const struct pool_lookup *queries, size_t n, uint32_t *ret_slots)
{
	int r = ask(
		c, POOL_LOOKUP, queries, n * sizeof(*queries), POOL_SLOTS, n * sizeof(*ret_slots));

	return r < 0 ? r : take_slots(c, n, true, ret_slots);
}

uint8_t *pool_client_insert_page(struct pool_client *c, size_t i)
{
	return c->insert.pages[i];
}

int pool_client_insert(struct pool_client *c, size_t n, uint32_t *ret_slots)
{
	int r;

	c->insert.header = (struct pool_insert){.n_pages = (uint32_t)n};
	r = ask(c, POOL_INSERT, &c->insert, sizeof(c->insert.header) + n * PAGE_BYTES, POOL_SLOTS,
		n * sizeof(*ret_slots));
	return r < 0 ? r : take_slots(c, n, false, ret_slots);
}

/* Our numbers become the pool's, in place. The files are its, since references are. */
static void give_slots(const struct pool_client *c, uint32_t *slots, size_t n)
{
	for (size_t i = 0; i < n; i++)
		slots[i] = c->files->files[slots[i] / POOL_FILE_PAGES].index * POOL_FILE_PAGES +
			   slots[i] % POOL_FILE_PAGES;
}

int pool_client_release(struct pool_client *c, uint32_t *slots, size_t n)
{
	give_slots(c, slots, n);
	return n ? send_all(c, POOL_RELEASE, slots, n * sizeof(*slots), -1) : 0;
}

int pool_client_restore_files(struct pool_client *c)
{
	int r = 0;

	for (size_t i = 0; r == 0 && c->can_restore && i < c->files->n; i++) {
		if (c->files->files[i].index != UINT32_MAX)
			continue;
		r = send_all(c, POOL_RESTORE_FILE, NULL, 0, c->files->files[i].fd);
		if (r == 0)
			r = await_answer(c, POOL_SLOTS, 0);
	}
	return r;
}

bool pool_client_has_file(const struct pool_client *c, uint32_t slot)
{
	return slot / POOL_FILE_PAGES < c->files->n &&
	       c->files->files[slot / POOL_FILE_PAGES].index != UINT32_MAX;
}

int pool_client_restore(struct pool_client *c, uint32_t *slots, size_t n)
{
	give_slots(c, slots, n);
	return ask(c, POOL_RESTORE, slots, n * sizeof(*slots), POOL_SLOTS, 0);
}

int pool_client_restore_end(struct pool_client *c)
{
	return c->can_restore ? ask(c, POOL_RESTORE_END, NULL, 0, POOL_SLOTS, 0) : 0;
}

const uint8_t *pool_client_slot(
	const struct pool_client *c, uint32_t slot, int *ret_fd, uint64_t *ret_offset)
{
	const struct client_file *file;

	if (!pool_client_has_file(c, slot))
		return NULL;
	file = &c->files->files[slot / POOL_FILE_PAGES];
	*ret_fd = file->fd;
	*ret_offset = slot % POOL_FILE_PAGES * PAGE_BYTES;
	return file->pages + *ret_offset;
}

int pool_client_poll(struct pool_client *c)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};

	while (poll(&p, 1, 0) > 0) {
		int r = receive(c, 0);

		if (r < 0)
			return r;
	}
	return 0;
}

bool pool_client_has_notify(const struct pool_client *c)
{
	return c->n_notify > 0;
}

size_t pool_client_take_notify(struct pool_client *c, struct pool_notify *ret, size_t max)
{
	size_t n = u64_min(max, c->n_notify);

	if (n) {
		memcpy(ret, c->notify, n * sizeof(*ret));
		c->n_notify -= n;
		memmove(c->notify, c->notify + n, c->n_notify * sizeof(*ret));
	}
	return n;
}

int pool_client_fd(const struct pool_client *c)
{
	return c->fd;
}
