/*
 * Claims about memd-pool towards members that break the protocol or do not listen: they lose their
 * connection, nobody else does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "dedup/page-hash.h"
#include "dedup/pool-server.h"
#include "memd/base/fd.h"
#include "memd/base/ipc.h"

#define N_PEERS 2
#define BAD	0 /* the peer that misbehaves */
#define GOOD	1

struct world {
	struct pool *pool;
	struct pool_server *server;
	int stop_fd; /* always readable: pool_server_run makes one turn */
	int fds[N_PEERS];
	pid_t pids[N_PEERS]; /* processes that stand for the peers' */
	int pidfds[N_PEERS];
	struct ipc_message *answer;
};

/* A process that does nothing until it is killed. */
static pid_t start_process(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid;
}

static void end_process(struct world *w, unsigned who)
{
	if (w->pids[who] > 0) {
		kill(w->pids[who], SIGKILL);
		waitpid(w->pids[who], NULL, 0);
	}
	w->pids[who] = 0;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	if (pool_new(&(struct pool_limits){0}, &w->pool) < 0 ||
		pool_server_new(w->pool, -1, &w->server) < 0)
		return -1;
	/* Before there is a connection that they would keep open. */
	for (unsigned i = 0; i < N_PEERS; i++) {
		w->pids[i] = start_process();
		w->pidfds[i] = fd_pidfd_open(w->pids[i]);
	}
	w->stop_fd = eventfd(1, EFD_CLOEXEC);
	w->answer = ipc_message_new();
	for (unsigned i = 0; i < N_PEERS; i++) {
		int fds[2];

		if (ipc_pair(fds) < 0 || pool_server_add(w->server, fds[0]) < 0 ||
			fd_set_nonblock(fds[1], true) < 0)
			return -1;
		w->fds[i] = fds[1];
	}
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	pool_server_free(w->server);
	pool_free(w->pool);
	ipc_message_free(w->answer);
	for (unsigned i = 0; i < N_PEERS; i++) {
		close(w->fds[i]);
		end_process(w, i);
		close(w->pidfds[i]);
	}
	close(w->stop_fd);
	free(w);
	return 0;
}

static void serve(struct world *w)
{
	assert_int_equal(pool_server_run(w->server, w->stop_fd), 0);
}

static void say(struct world *w, unsigned who, uint16_t type, const void *payload, size_t size)
{
	/* A JOIN needs the pidfd of the member's process. */
	const size_t n_fds = type == POOL_JOIN ? 1 : 0;

	assert_int_equal(ipc_send(w->fds[who], type, 7, payload, size, &w->pidfds[who], n_fds), 0);
	serve(w);
}

/* The next message of that type; files and notifications before it are passed over. */
static void hear(struct world *w, unsigned who, uint16_t type, size_t size)
{
	do
		assert_int_equal(ipc_recv(w->fds[who], w->answer), 0);
	while (w->answer->header.type != type &&
		(w->answer->header.type == POOL_FILE || w->answer->header.type == POOL_NOTIFY));
	assert_int_equal(w->answer->header.type, type);
	assert_int_equal(w->answer->header.seq, 7);
	assert_int_equal(w->answer->header.size, size);
}

static void join(struct world *w, unsigned who)
{
	const struct pool_join request = {.proto_version = POOL_PROTO_VERSION, .n_pages = 1 << 20};

	say(w, who, POOL_JOIN, &request, sizeof(request));
	hear(w, who, POOL_WELCOME, sizeof(struct pool_welcome));
}

static uint32_t insert(struct world *w, unsigned who, uint8_t byte)
{
	static struct {
		struct pool_insert header;
		uint8_t page[PAGE_BYTES];
	} request;

	request.header.n_pages = 1;
	memset(request.page, byte, sizeof(request.page));
	say(w, who, POOL_INSERT, &request, sizeof(request));
	hear(w, who, POOL_SLOTS, sizeof(uint32_t));
	return *(const uint32_t *)(const void *)w->answer->payload;
}

static struct pool_stats stats_of(struct world *w)
{
	struct pool_stats stats;

	pool_stats_read(w->pool, &stats);
	return stats;
}

static void assert_closed(struct world *w, unsigned who)
{
	int r;

	serve(w);
	while ((r = ipc_recv(w->fds[who], w->answer)) == 0)
		;
	assert_int_equal(r, IPC_CLOSED);
}

/*
 * The bad one's connection is closed, and its references are back when its process has ended; the
 * good one is served as before.
 */
static void assert_only_bad_is_gone(struct world *w)
{
	assert_closed(w, BAD);
	end_process(w, BAD);
	serve(w);
	assert_int_equal(stats_of(w).members, 1);
	assert_int_equal(stats_of(w).references, 1);
	assert_int_not_equal(insert(w, GOOD, 0x77), POOL_SLOT_NONE);
}

static void join_both(struct world *w)
{
	join(w, GOOD);
	join(w, BAD);
	insert(w, GOOD, 1);
	insert(w, BAD, 1);
	assert_int_equal(stats_of(w).references, 2);
}

static void closes_on_messages_that_make_no_sense(void **state)
{
	static const struct {
		uint16_t type;
		uint32_t size;
		uint32_t first; /* word of the payload; the rest is zero */
	} bad[] = {
		{0, 0, 0},
		{POOL_WELCOME, sizeof(struct pool_welcome), 1},
		{POOL_STATS, 0, 0},
		{UINT16_MAX, 16, 0},
		{POOL_JOIN, sizeof(struct pool_join), POOL_PROTO_VERSION}, /* twice */
		{POOL_LOOKUP, 0, 0},
		{POOL_LOOKUP, sizeof(struct pool_lookup) - 1, 0},
		{POOL_LOOKUP, sizeof(struct pool_lookup) + 1, 0},
		{POOL_LOOKUP, (POOL_LOOKUP_MAX + 1) * sizeof(struct pool_lookup), 0},
		{POOL_INSERT, 0, 0},
		{POOL_INSERT, sizeof(struct pool_insert), 0},
		{POOL_INSERT, sizeof(struct pool_insert) + PAGE_BYTES, 0},
		{POOL_INSERT, sizeof(struct pool_insert) + PAGE_BYTES - 1, 1},
		{POOL_INSERT, sizeof(struct pool_insert) + PAGE_BYTES, 2},
		{POOL_INSERT, sizeof(struct pool_insert) + PAGE_BYTES, UINT32_MAX},
		{POOL_INSERT, IPC_PAYLOAD_MAX, POOL_INSERT_MAX + 1},
		{POOL_RELEASE, 3, 0},
		{POOL_RELEASE, 4, 1}, /* not held */
		{POOL_RELEASE, 4, UINT32_MAX},
		{POOL_GET_STATS, 4, 0},
	};
	static uint8_t payload[IPC_PAYLOAD_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		void *world = NULL;

		assert_int_equal(setup(&world), 0);
		join_both(world);
		memcpy(payload, &bad[i].first, sizeof(bad[i].first));
		say(world, BAD, bad[i].type, payload, bad[i].size);
		assert_only_bad_is_gone(world);
		teardown(&world);
	}
}

/*
 * What a member maps it maps until its process ends: a slot that is reused earlier puts wrong bytes
 * under its guest.
 */
static void keeps_what_a_living_process_holds_when_its_connection_ends(void **state)
{
	struct world *w = *state;
	uint32_t slot;

	join_both(w);
	slot = insert(w, BAD, 0x33);
	assert_int_equal(stats_of(w).references, 3);
	assert_int_equal(send(w->fds[BAD], "junk", 4, MSG_NOSIGNAL), 4);
	assert_closed(w, BAD);
	assert_int_equal(stats_of(w).references, 3);
	for (unsigned i = 1; i < 64; i++)
		assert_int_not_equal(insert(w, GOOD, (uint8_t)(0x80 + i)), slot);
	end_process(w, BAD);
	serve(w);
	assert_int_equal(stats_of(w).members, 1);
	assert_int_equal(stats_of(w).references, 1 + 63);
}

static void refuses_to_join_without_a_pidfd(void **state)
{
	struct world *w = *state;
	const struct pool_join request = {.proto_version = POOL_PROTO_VERSION, .n_pages = 1 << 20};

	join(w, GOOD);
	insert(w, GOOD, 1);
	assert_int_equal(
		ipc_send(w->fds[BAD], POOL_JOIN, 7, &request, sizeof(request), &w->stop_fd, 1), 0);
	assert_only_bad_is_gone(w);
}

static void serves_nothing_before_join(void **state)
{
	static const uint8_t payload[sizeof(struct pool_insert) + PAGE_BYTES] = {1};
	static const struct {
		uint16_t type;
		size_t size;
	} early[] = {
		{POOL_LOOKUP, sizeof(struct pool_lookup)},
		{POOL_INSERT, sizeof(payload)},
		{POOL_RELEASE, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(early); i++) {
		struct world *w;
		void *world = NULL;

		assert_int_equal(setup(&world), 0);
		w = world;
		join(w, GOOD);
		insert(w, GOOD, 1);
		say(w, BAD, early[i].type, payload, early[i].size);
		assert_only_bad_is_gone(w);
		teardown(&world);
	}
}

static void closes_on_a_wrong_version(void **state)
{
	struct world *w = *state;
	const struct pool_join request = {.proto_version = POOL_PROTO_VERSION + 1};

	join(w, GOOD);
	insert(w, GOOD, 1);
	say(w, BAD, POOL_JOIN, &request, sizeof(request));
	assert_only_bad_is_gone(w);
}

static void closes_on_broken_framing(void **state)
{
	struct world *w = *state;

	join_both(w);
	assert_int_equal(send(w->fds[BAD], "junk", 4, MSG_NOSIGNAL), 4);
	serve(w);
	assert_only_bad_is_gone(w);
}

static void closes_on_a_descriptor(void **state)
{
	struct world *w = *state;

	join_both(w);
	assert_int_equal(ipc_send(w->fds[BAD], POOL_GET_STATS, 7, NULL, 0, &w->stop_fd, 1), 0);
	serve(w);
	assert_only_bad_is_gone(w);
}

static void answers_statistics_without_join(void **state)
{
	struct world *w = *state;

	join(w, GOOD);
	insert(w, GOOD, 1);
	say(w, BAD, POOL_GET_STATS, NULL, 0);
	hear(w, BAD, POOL_STATS, sizeof(struct pool_stats));
	assert_int_equal(IPC_PAYLOAD(w->answer, struct pool_stats)->pages_used, 1);
}

/*
 * Asks without reading answers until nothing goes any more: that stops it and nobody else; when it
 * listens again all is there.
 */
static void a_member_that_does_not_listen_stops_only_itself(void **state)
{
	static const struct pool_lookup queries[POOL_LOOKUP_MAX];
	struct world *w = *state;
	unsigned asked = 0, answered = 0;
	int r;

	join(w, GOOD);
	join(w, BAD);
	while ((r = ipc_send(w->fds[BAD], POOL_LOOKUP, 7, queries, sizeof(queries), NULL, 0)) ==
		0) {
		assert_true(++asked < 1000);
		serve(w);
	}
	assert_int_equal(r, -EAGAIN);
	for (unsigned i = 0; i < 20; i++)
		assert_int_not_equal(insert(w, GOOD, (uint8_t)i), POOL_SLOT_NONE);
	for (unsigned i = 0; i < 10 * asked; i++) {
		if (ipc_recv(w->fds[BAD], w->answer) == 0 && w->answer->header.type == POOL_SLOTS)
			answered++;
		serve(w);
	}
	assert_int_equal(answered, asked);
}

static void a_file_arrives_before_its_first_slot(void **state)
{
	struct world *w = *state;
	const struct pool_lookup query = {.hash = 0};
	uint8_t page[PAGE_BYTES];

	join(w, GOOD);
	join(w, BAD);
	insert(w, GOOD, 9);
	memset(page, 9, sizeof(page));
	say(w, BAD, POOL_LOOKUP, &(struct pool_lookup){.hash = page_hash(page)}, sizeof(query));
	assert_int_equal(ipc_recv(w->fds[BAD], w->answer), 0);
	assert_int_equal(w->answer->header.type, POOL_FILE);
	assert_int_equal(w->answer->n_fds, 1);
	assert_int_equal(pread(w->answer->fds[0], page, 1, 0), 1);
	assert_int_equal(page[0], 9);
	hear(w, BAD, POOL_SLOTS, sizeof(uint32_t));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(closes_on_messages_that_make_no_sense),
		cmocka_unit_test(serves_nothing_before_join),
		cmocka_unit_test_setup_teardown(
			keeps_what_a_living_process_holds_when_its_connection_ends, setup,
			teardown),
		cmocka_unit_test_setup_teardown(refuses_to_join_without_a_pidfd, setup, teardown),
		cmocka_unit_test_setup_teardown(closes_on_a_wrong_version, setup, teardown),
		cmocka_unit_test_setup_teardown(closes_on_broken_framing, setup, teardown),
		cmocka_unit_test_setup_teardown(closes_on_a_descriptor, setup, teardown),
		cmocka_unit_test_setup_teardown(answers_statistics_without_join, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_member_that_does_not_listen_stops_only_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_file_arrives_before_its_first_slot, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("pool-server", tests, NULL, NULL);
}
