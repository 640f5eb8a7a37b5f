/*
 * The loop of memd-pool. What arrives is checked here (type, order, size) and handed to pool.c,
 * which checks what it means.
 *
 * Each connection has room for one reply. While that cannot be sent the connection is not read, so
 * that a member that asks and does not listen costs 16 KiB and no more. Files go before the reply
 * that may name their slots. Notifications go when nothing else waits, and hold up nothing.
 *
 * DOC: when references come back
 *
 * A slot must not be reused while anybody maps it: he would read another page under his own
 * address. What a member maps it maps until its process ends, whatever becomes of its connection
 * (the member closed it after an error, memd gave it another one, it broke the protocol and we
 * closed it). So a connection that ends leaves its member behind, detached, with all references,
 * until the pidfd that came with JOIN says that the process has ended; the kernel has then torn
 * down its address space. A member that sends a pidfd of some other process keeps memory from its
 * own group for as long as that process lives, within the limits of pool.c, or loses its own pages
 * when it ends; others it cannot harm.
 *
 * A process that joins again says what it maps (RESTORE): with RESTORE_END what it left behind is
 * given back, for the new references stand for all that is still mapped. Which process it is the
 * kernel says (SO_PASSCRED), so nobody gives back what is another's. A process that an earlier
 * memd-pool served and that has not come yet is the same thing without references (awaited).
 */
#include "dedup/pool-server.h"

#include <sys/epoll.h>
#include <stdlib.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/ipc.h"
#include "memd/base/overflow.h"

#define EVENTS_MAX 64
#define TURN_MS	   50 /* freed slots gather so long, so that neighbours go together */

struct connection {
	struct connection *next;
	struct connection **link; /* what points to this one */
	int fd; /* -1: closed, and the member is detached */
	int pidfd; /* of the member's process; -1 before JOIN */
	pid_t pid; /* that process; 0 before JOIN */
	struct pool_member *member; /* NULL before JOIN, and of an awaited one */
	bool superseded; /* fd is -1: freed after this turn, since epoll may have named it */
	bool awaited; /* fd is -1: a process that may map what an earlier memd-pool granted */
	size_t n_files_sent;
	uint32_t events; /* that epoll waits for */
	bool replying; /* what follows is to be sent */
	uint16_t reply_type;
	uint32_t reply_seq;
	uint32_t reply_bytes;
	union {
		uint32_t slots[POOL_LOOKUP_MAX];
		struct pool_welcome welcome;
		struct pool_stats stats;
	} reply;
};

struct pool_server {
	struct pool *pool;
	int epoll_fd;
	int listen_fd;
	bool accept_paused;
	struct connection *connections;
	struct ipc_message *message; /* the one buffer for what arrives */
	bool any_superseded;
	size_t n_awaited;
	bool restoring; /* pool_restore_end is due when none is awaited */
	uint64_t next_trim_us;
};

static int watch(const struct pool_server *s, int op, int fd, uint32_t events, void *data)
{
	struct epoll_event event = {.events = events, .data = {.ptr = data}};

	return epoll_ctl(s->epoll_fd, op, fd, &event) < 0 ? -errno : 0;
}

int pool_server_new(struct pool *pool, int listen_fd, struct pool_server **ret)
{
	_cleanup_(pool_server_freep) struct pool_server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->pool = pool;
	s->listen_fd = listen_fd;
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll_fd < 0)
		return -errno;
	s->message = ipc_message_new();
	if (!s->message)
		return -ENOMEM;
	if (listen_fd >= 0) {
		r = fd_set_nonblock(listen_fd, true);
		if (r == 0)
			r = ipc_want_sender(listen_fd);
		if (r == 0)
			r = watch(s, EPOLL_CTL_ADD, listen_fd, EPOLLIN, &s->listen_fd);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(s);
	return 0;
}

static void connection_free(struct pool_server *s, struct connection *c)
{
	if (c->member)
		pool_member_free(s->pool, c->member);
	s->n_awaited -= c->awaited;
	if (c->link) {
		*c->link = c->next;
		if (c->next)
			c->next->link = c->link;
	}
	/*
	 * By hand: the epoll set knows the pidfd as long as anybody has it open, also the member.
	 */
	if (c->pidfd >= 0)
		epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, c->pidfd, NULL);
	cleanup_closep(&c->pidfd);
	cleanup_closep(&c->fd); /* takes it out of the epoll set, too */
	free(c);
}

/* The end of a connection; of its member only if its process has ended too. See DOC above. */
static void connection_close(struct pool_server *s, struct connection *c)
{
	if (!c->member || fd_pidfd_ended(c->pidfd) ||
		watch(s, EPOLL_CTL_ADD, c->pidfd, EPOLLIN, c) < 0) {
		connection_free(s, c);
		return;
	}
	pool_member_detach(s->pool, c->member);
	cleanup_closep(&c->fd);
	c->fd = -1;
}

void pool_server_free(struct pool_server *s)
{
	if (!s)
		return;
	while (s->connections)
		connection_free(s, s->connections);
	ipc_message_free(s->message);
	cleanup_closep(&s->epoll_fd);
	free(s);
}

static void add_connection(struct pool_server *s, struct connection *c)
{
	c->next = s->connections;
	c->link = &s->connections;
	if (c->next)
		c->next->link = &c->next;
	s->connections = c;
}

int pool_server_add(struct pool_server *s, int fd)
{
	struct connection *c = calloc(1, sizeof(*c));
	int r;

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->fd = fd;
	c->pidfd = -1;
	c->events = EPOLLIN;
	r = fd_set_nonblock(fd, true);
	if (r == 0)
		r = ipc_want_sender(fd);
	if (r == 0)
		r = watch(s, EPOLL_CTL_ADD, fd, EPOLLIN, c);
	if (r < 0) {
		connection_close(s, c);
		return r;
	}
	add_connection(s, c);
	return 0;
}

int pool_server_expect(struct pool_server *s, pid_t pid)
{
	struct connection *c = calloc(1, sizeof(*c));
	int r = 0;

	if (!c)
		return -ENOMEM;
	c->fd = -1;
	c->pid = pid;
	c->pidfd = fd_pidfd_open(pid);
	if (c->pidfd < 0)
		r = c->pidfd;
	else if (watch(s, EPOLL_CTL_ADD, c->pidfd, EPOLLIN, c) < 0)
		r = -errno;
	if (r < 0) {
		connection_free(s, c);
		return r == -ESRCH ? 0 : r;
	}
	c->awaited = true;
	s->n_awaited++;
	s->restoring = true;
	pool_restore_begin(s->pool);
	add_connection(s, c);
	return 0;
}

static void set_reply(struct connection *c, uint16_t type, uint32_t seq, size_t bytes)
{
	c->replying = true;
	c->reply_type = type;
	c->reply_seq = seq;
	c->reply_bytes = (uint32_t)bytes;
}

static int on_join(struct pool_server *s, struct connection *c, struct ipc_message *m)
{
	const struct pool_join *join = IPC_PAYLOAD(m, struct pool_join);
	int r;

	if (!join || c->member || join->proto_version != POOL_PROTO_VERSION || m->n_fds != 1 ||
		!fd_is_pidfd(m->fds[0]) || m->sender <= 0)
		return -EPROTO;
	r = pool_member_new(s->pool, join->n_pages, &c->member);
	if (r < 0)
		return r;
	c->pidfd = TAKE_FD(m->fds[0]);
	c->pid = m->sender;
	c->reply.welcome = (struct pool_welcome){
		.proto_version = POOL_PROTO_VERSION,
		.member = pool_member_id(c->member),
		.n_files = (uint32_t)pool_files(s->pool),
		.features = POOL_FEATURE_RESTORE,
	};
	set_reply(c, POOL_WELCOME, m->header.seq, sizeof(c->reply.welcome));
	return 0;
}

static int on_lookup(struct pool_server *s, struct connection *c, const struct ipc_message *m)
{
	size_t n = m->header.size / sizeof(struct pool_lookup);

	if (!c->member || n == 0 || n > POOL_LOOKUP_MAX ||
		m->header.size % sizeof(struct pool_lookup))
		return -EPROTO;
	pool_lookup(s->pool, c->member, (const struct pool_lookup *)(const void *)m->payload, n,
		c->reply.slots);
	set_reply(c, POOL_SLOTS, m->header.seq, n * sizeof(uint32_t));
	return 0;
}

static int on_insert(struct pool_server *s, struct connection *c, const struct ipc_message *m)
{
	const struct pool_insert *insert = (const struct pool_insert *)(const void *)m->payload;
	size_t n;

	if (!c->member || m->header.size < sizeof(*insert))
		return -EPROTO;
	n = insert->n_pages;
	if (n == 0 || n > POOL_INSERT_MAX || m->header.size != sizeof(*insert) + n * PAGE_BYTES)
		return -EPROTO;
	pool_insert(s->pool, c->member, m->payload + sizeof(*insert), n, c->reply.slots);
	set_reply(c, POOL_SLOTS, m->header.seq, n * sizeof(uint32_t));
	return 0;
}

static int on_release(struct pool_server *s, struct connection *c, const struct ipc_message *m)
{
	if (!c->member || m->header.size % sizeof(uint32_t))
		return -EPROTO;
	return pool_release(s->pool, c->member, (const uint32_t *)(const void *)m->payload,
		m->header.size / sizeof(uint32_t));
}

static int acknowledge(struct connection *c, const struct ipc_message *m, int r)
{
	if (r == 0)
		set_reply(c, POOL_SLOTS, m->header.seq, 0);
	return r;
}

/* One that is not taken does not arrive as POOL_FILE: that is the answer. */
static int on_restore_file(struct pool_server *s, struct connection *c, struct ipc_message *m)
{
	if (!c->member || m->header.size || m->n_fds != 1)
		return -EPROTO;
	(void)pool_restore_file(s->pool, m->fds[0]);
	return acknowledge(c, m, 0);
}

static int on_restore(struct pool_server *s, struct connection *c, const struct ipc_message *m)
{
	if (!c->member || m->header.size % sizeof(uint32_t))
		return -EPROTO;
	return acknowledge(c, m,
		pool_restore(s->pool, c->member, (const uint32_t *)(const void *)m->payload,
			m->header.size / sizeof(uint32_t)));
}

/* What the same process left behind, or was awaited for, it has announced now. */
static int on_restore_end(struct pool_server *s, struct connection *c, const struct ipc_message *m)
{
	if (!c->member || m->header.size)
		return -EPROTO;
	for (struct connection *d = s->connections; d; d = d->next)
		if (d->fd < 0 && d->pid == c->pid)
			d->superseded = s->any_superseded = true;
	return acknowledge(c, m, 0);
}

static int on_get_stats(struct pool_server *s, struct connection *c, const struct ipc_message *m)
{
	if (m->header.size)
		return -EPROTO;
	pool_find_leaks(s->pool); /* memd asks at each tick: often enough */
	pool_stats_read(s->pool, &c->reply.stats);
	set_reply(c, POOL_STATS, m->header.seq, sizeof(c->reply.stats));
	return 0;
}

/* 0, or why the connection has to go. */
static int on_message(struct pool_server *s, struct connection *c, struct ipc_message *m)
{
	if (m->n_fds && m->header.type != POOL_JOIN && m->header.type != POOL_RESTORE_FILE)
		return -EPROTO;
	switch (m->header.type) {
	case POOL_JOIN:
		return on_join(s, c, m);
	case POOL_LOOKUP:
		return on_lookup(s, c, m);
	case POOL_INSERT:
		return on_insert(s, c, m);
	case POOL_RELEASE:
		return on_release(s, c, m);
	case POOL_RESTORE_FILE:
		return on_restore_file(s, c, m);
	case POOL_RESTORE:
		return on_restore(s, c, m);
	case POOL_RESTORE_END:
		return on_restore_end(s, c, m);
	case POOL_GET_STATS:
		return on_get_stats(s, c, m);
	default:
		return -EPROTO;
	}
}

static int send_files(struct pool_server *s, struct connection *c)
{
	while (c->n_files_sent < pool_files(s->pool)) {
		struct pool_file announced = {.index = (uint32_t)c->n_files_sent};
		int fd = pool_file_fd(s->pool, c->n_files_sent);
		int r = ipc_send(c->fd, POOL_FILE, 0, &announced, sizeof(announced), &fd, 1);

		if (r < 0)
			return r;
		c->n_files_sent++;
	}
	return 0;
}

static int send_reply(struct pool_server *s, struct connection *c)
{
	int r = 0;

	/*
	 * The welcome says how many files follow; to any other reply it may matter that they are
	 * there.
	 */
	if (c->member && c->reply_type != POOL_WELCOME)
		r = send_files(s, c);
	if (r == 0)
		r = ipc_send(
			c->fd, c->reply_type, c->reply_seq, &c->reply, c->reply_bytes, NULL, 0);
	if (r == 0)
		c->replying = false;
	return r;
}

static int send_notify(struct connection *c)
{
	const struct pool_notify *notify;
	size_t n;

	while ((n = pool_member_notify(c->member, &notify))) {
		int r;

		n = u64_min(n, POOL_NOTIFY_MAX);
		r = ipc_send(c->fd, POOL_NOTIFY, 0, notify, n * sizeof(*notify), NULL, 0);
		if (r < 0)
			return r;
		pool_member_drop_notify(c->member, n);
	}
	return 0;
}

/*
 * Sends what waits for this connection, as far as there is room. 0, or why the connection has to
 * go.
 */
static int flush(struct pool_server *s, struct connection *c)
{
	uint32_t events = EPOLLIN;
	int r = 0;

	if (c->replying)
		r = send_reply(s, c);
	if (r == 0 && c->member)
		r = send_files(s, c);
	if (r == -EAGAIN) {
		events = EPOLLOUT; /* and nothing is read meanwhile */
	} else if (r == 0 && c->member) {
		r = send_notify(c);
		if (r == -EAGAIN)
			events |= EPOLLOUT;
	}
	if (r < 0 && r != -EAGAIN)
		return r;
	if (events == c->events)
		return 0;
	c->events = events;
	return watch(s, EPOLL_CTL_MOD, c->fd, events, c);
}

/* One message, then the others have their turn. */
static int receive(struct pool_server *s, struct connection *c)
{
	int r = ipc_recv(c->fd, s->message);

	if (r == -EAGAIN)
		return 0;
	if (r != 0)
		return r;
	return on_message(s, c, s->message);
}

static void serve(struct pool_server *s, struct connection *c, uint32_t events)
{
	int r = 0;

	if (c->fd < 0) { /* the process of a detached member has ended */
		connection_free(s, c);
		return;
	}
	if (events & EPOLLIN)
		r = receive(s, c);
	else if (events & (EPOLLHUP | EPOLLERR))
		r = IPC_CLOSED;
	if (r == 0)
		r = flush(s, c);
	if (r != 0)
		connection_close(s, c);
}

/*
 * Out of descriptors or memory: whoever waits for us waits until the next turn, which the timeout
 * brings.
 */
static void accept_all(struct pool_server *s)
{
	int fd;

	while ((fd = ipc_accept(s->listen_fd)) >= 0)
		pool_server_add(s, fd);
	if (fd != -EAGAIN && fd != -ECONNABORTED)
		s->accept_paused = watch(s, EPOLL_CTL_MOD, s->listen_fd, 0, &s->listen_fd) == 0;
}

/*
 * Members that somebody else's insert concerns hear of it at once, not when they ask the next time.
 */
static void notify_all(struct pool_server *s)
{
	for (struct connection *c = s->connections, *next; c; c = next) {
		const struct pool_notify *notify;

		next = c->next;
		if (c->fd >= 0 && c->member && c->events == EPOLLIN &&
			pool_member_notify(c->member, &notify) && flush(s, c) != 0)
			connection_close(s, c);
	}
}

static void free_superseded(struct pool_server *s)
{
	for (struct connection *c = s->connections, *next; c; c = next) {
		next = c->next;
		if (c->superseded)
			connection_free(s, c);
	}
	s->any_superseded = false;
}

static void tick(struct pool_server *s)
{
	uint64_t now_us = clock_monotonic_us();

	if (s->any_superseded)
		free_superseded(s);
	if (s->restoring && s->n_awaited == 0) {
		pool_restore_end(s->pool);
		s->restoring = false;
	}
	if (s->accept_paused)
		s->accept_paused =
			watch(s, EPOLL_CTL_MOD, s->listen_fd, EPOLLIN, &s->listen_fd) < 0;
	if (now_us >= s->next_trim_us && pool_wants_trim(s->pool)) {
		pool_trim(s->pool);
		s->next_trim_us = now_us + TURN_MS * US_PER_MS;
	}
}

int pool_server_run(struct pool_server *s, int stop_fd)
{
	struct epoll_event events[EVENTS_MAX];
	bool stop = false;
	int r;

	r = watch(s, EPOLL_CTL_ADD, stop_fd, EPOLLIN, NULL);
	while (r == 0 && !stop) {
		bool busy = s->accept_paused || pool_wants_trim(s->pool);
		int n = epoll_wait(s->epoll_fd, events, EVENTS_MAX, busy ? TURN_MS : -1);

		if (n < 0 && errno != EINTR)
			r = -errno;
		for (int i = 0; i < n; i++) {
			void *who = events[i].data.ptr;

			if (!who)
				stop = true;
			else if (who == &s->listen_fd)
				accept_all(s);
			else
				serve(s, who, events[i].events);
		}
		notify_all(s);
		tick(s);
	}
	epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, stop_fd, NULL);
	return r;
}
