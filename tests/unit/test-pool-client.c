/*
 * Claims about a member towards a pool that lies: the connection ends, nothing is mapped, nothing
 * crashes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "dedup/pool-client.h"
#include "memd/base/ipc.h"
#include "memd/base/units.h"

#define FILE_BYTES (POOL_FILE_PAGES * PAGE_BYTES)

/* What the false pool does when it is asked the first time after JOIN. */
struct lie {
	uint64_t file_bytes; /* of a file that is sent first; 0: none */
	int seals;
	uint32_t file_index;
	uint16_t type;
	uint32_t seq_off;
	uint32_t size;
	uint32_t slot; /* in every place of the answer */
	int expected;
};

struct false_pool {
	const struct lie *lie;
	int fd;
};

static void send_file(int fd, const struct lie *lie)
{
	const struct pool_file announced = {.index = lie->file_index};
	int file = memfd_create("false", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (ftruncate(file, (off_t)lie->file_bytes) == 0 &&
		fcntl(file, F_ADD_SEALS, lie->seals) == 0)
		ipc_send(fd, POOL_FILE, 0, &announced, sizeof(announced), &file, 1);
	close(file);
}

static void *false_pool_main(void *arg)
{
	struct false_pool *p = arg;
	_cleanup_(ipc_message_freep) struct ipc_message *m = ipc_message_new();
	const struct pool_welcome welcome = {.proto_version = POOL_PROTO_VERSION};
	uint32_t slots[8];

	for (size_t i = 0; i < ARRAY_SIZE(slots); i++)
		slots[i] = p->lie->slot;
	if (ipc_recv(p->fd, m) == 0 && m->header.type == POOL_JOIN)
		ipc_send(p->fd, POOL_WELCOME, m->header.seq, &welcome, sizeof(welcome), NULL, 0);
	if (ipc_recv(p->fd, m) == 0 && p->lie->type) {
		if (p->lie->file_bytes)
			send_file(p->fd, p->lie);
		ipc_send(p->fd, p->lie->type, m->header.seq + p->lie->seq_off, slots, p->lie->size,
			NULL, 0);
		ipc_recv(p->fd, m);
	}
	close(p->fd);
	return NULL;
}

static struct pool_files *files; /* of the test that runs */

static int set_up(void **state)
{
	files = pool_files_new();
	return files ? 0 : -1;
}

static int tear_down(void **state)
{
	pool_files_free(files);
	return 0;
}

/* Asks for two pages. */
static int ask(const struct lie *lie, uint32_t ret_slots[2], struct pool_client **ret)
{
	static const struct pool_lookup queries[2];
	struct false_pool p = {.lie = lie};
	struct pool_client *client;
	pthread_t thread;
	int fds[2], r;

	assert_int_equal(ipc_pair(fds), 0);
	p.fd = fds[0];
	assert_int_equal(pthread_create(&thread, NULL, false_pool_main, &p), 0);
	assert_int_equal(pool_client_new(fds[1], -1, 16, files, &client), 0);
	r = pool_client_lookup(client, queries, 2, ret_slots);
	if (r < 0 || !ret) {
		pool_client_free(client);
		client = NULL;
	} else {
		assert_int_equal(pool_client_release(client, ret_slots, 1), 0);
		*ret = client;
	}
	pthread_join(thread, NULL);
	return r;
}

static void believes_only_what_can_be(void **state)
{
	static const struct lie lies[] = {
		{.type = POOL_SLOTS, .size = 8, .slot = POOL_SLOT_NONE, .expected = 0},
		{.type = POOL_SLOTS, .size = 8, .slot = POOL_SLOT_HINTED, .expected = 0},
		{.type = POOL_SLOTS, .size = 8, .slot = 0, .expected = -EPROTO}, /* no such file */
		{.type = POOL_SLOTS, .size = 8, .slot = POOL_SLOT_HINTED - 1, .expected = -EPROTO},
		{.type = POOL_SLOTS, .size = 4, .slot = POOL_SLOT_NONE, .expected = -EPROTO},
		{.type = POOL_SLOTS, .size = 12, .slot = POOL_SLOT_NONE, .expected = -EPROTO},
		{.type = POOL_SLOTS,
			.size = 8,
			.slot = POOL_SLOT_NONE,
			.seq_off = 1,
			.expected = -EPROTO},
		{.type = POOL_STATS, .size = 8, .expected = -EPROTO},
		{.type = POOL_NOTIFY, .size = 8, .expected = -EPROTO},
		{.type = POOL_FILE,
			.size = sizeof(struct pool_file),
			.expected = -EPROTO}, /* no descriptor */
		{.type = 0, .expected = -EPIPE}, /* it hangs up */
		{.file_bytes = FILE_BYTES,
			.seals = F_SEAL_SHRINK,
			.type = POOL_SLOTS,
			.size = 8,
			.slot = POOL_FILE_PAGES - 1,
			.expected = 0},
		{.file_bytes = FILE_BYTES,
			.seals = F_SEAL_SHRINK,
			.type = POOL_SLOTS,
			.size = 8,
			.slot = POOL_FILE_PAGES,
			.expected = -EPROTO},
		{.file_bytes = FILE_BYTES,
			.seals = F_SEAL_GROW,
			.type = POOL_SLOTS,
			.size = 8,
			.slot = 0,
			.expected = -EPROTO},
		{.file_bytes = FILE_BYTES - PAGE_BYTES,
			.seals = F_SEAL_SHRINK,
			.type = POOL_SLOTS,
			.size = 8,
			.slot = 0,
			.expected = -EPROTO},
		{.file_bytes = FILE_BYTES,
			.seals = F_SEAL_SHRINK,
			.file_index = 1,
			.type = POOL_SLOTS,
			.size = 8,
			.slot = 0,
			.expected = -EPROTO},
	};

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		uint32_t slots[2] = {77, 77};
		int r = ask(&lies[i], slots, NULL);

		if (r != lies[i].expected)
			fail_msg("lie %zu: %d", i, r);
		assert_int_equal(slots[1], r < 0 ? 77 : lies[i].slot);
	}
}

static void reads_the_slots_of_a_file(void **state)
{
	static const struct lie truth = {.file_bytes = FILE_BYTES,
		.seals = F_SEAL_SHRINK,
		.type = POOL_SLOTS,
		.size = 8,
		.slot = POOL_FILE_PAGES - 1};
	_cleanup_(pool_client_freep) struct pool_client *c = NULL;
	uint32_t slots[2];
	uint64_t offset;
	int fd;

	assert_int_equal(ask(&truth, slots, &c), 0);
	assert_non_null(pool_client_slot(c, POOL_FILE_PAGES - 1, &fd, &offset));
	assert_int_equal(offset, FILE_BYTES - PAGE_BYTES);
	assert_int_equal(*pool_client_slot(c, POOL_FILE_PAGES - 1, &fd, &offset), 0);
	assert_null(pool_client_slot(c, POOL_FILE_PAGES, &fd, &offset));
	assert_null(pool_client_slot(c, POOL_SLOT_NONE, &fd, &offset));
}

static void refuses_a_pool_that_is_none(void **state)
{
	struct pool_client *c = NULL;
	int fds[2];

	assert_int_equal(ipc_pair(fds), 0);
	close(fds[0]);
	assert_int_equal(pool_client_new(fds[1], -1, 16, files, &c), -EPIPE);
	assert_null(c);
	assert_int_equal(fcntl(fds[1], F_GETFD), -1); /* taken over, closed */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(believes_only_what_can_be, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reads_the_slots_of_a_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refuses_a_pool_that_is_none, set_up, tear_down),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("pool-client", tests, NULL, NULL);
}
