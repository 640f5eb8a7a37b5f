/*
 * A memd-vmm without a guest: takes the arguments of the real one, has RAM of its own of which it
 * touches a part, and speaks vmm-proto.h truthfully, so that links, life cycles and ledgers are
 * tested without KVM. How it misbehaves is said in --cmdline, blank-separated: touch_mib=N (default
 * 8), fail (does not start), mute (accepts, says nothing), no_stats (does not answer them),
 * no_power (ignores the power button), lie_pages=N (claims N private pages less and N more
 * untouched ones), garbage (sends nonsense after HELLO), balloon_mib=N (all that it gives; default
 * all), old (statistics as the first memd-vmm sent them), new (with more than this one knows), renews (speaks
 * another version to the second memd that connects).
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/ipc.h"
#include "memd/base/pagemap.h"
#include "memd/base/units.h"
#include "memd/base/vmm-proto.h"

struct vmm {
	const char *name;
	const char *cmdline;
	uint64_t ram_bytes;
	uint32_t n_vcpus;
	uint8_t *ram;
	uint32_t state;
	uint64_t balloon_pages;
	uint64_t balloon_target_pages;
	bool pool_attached;
	unsigned n_connections;
};

static bool told(const struct vmm *v, const char *word)
{
	const char *p = strstr(v->cmdline, word);

	return p && (p == v->cmdline || p[-1] == ' ');
}

static uint64_t number(const struct vmm *v, const char *key, uint64_t otherwise)
{
	return told(v, key) ? strtoull(strstr(v->cmdline, key) + strlen(key), NULL, 10) : otherwise;
}

static void set_balloon(struct vmm *v, uint64_t target_pages)
{
	uint64_t most = number(v, "balloon_mib=", v->ram_bytes / MIB) * MIB / PAGE_BYTES;

	v->balloon_target_pages = target_pages;
	v->balloon_pages = target_pages < most ? target_pages : most;
	/* from the end of RAM, which nobody touched */
	madvise(v->ram + v->ram_bytes - v->balloon_pages * PAGE_BYTES,
		v->balloon_pages * PAGE_BYTES, MADV_DONTNEED);
}

static void read_stats(const struct vmm *v, struct vmm_stats *s)
{
	_cleanup_close_ int fd = pagemap_open(0);
	uint64_t n = v->ram_bytes / PAGE_BYTES, holes = 0, lie = number(v, "lie_pages=", 0);
	uint64_t entries[512];

	*s = (struct vmm_stats){
		.time_us = clock_monotonic_us(),
		.state = v->state,
		.balloon_ready = 1,
		.ram_pages = n,
		.hole_balloon_pages = v->balloon_pages,
		.balloon_target_pages = v->balloon_target_pages,
		.balloon_actual_pages = v->balloon_pages,
		.guest_swap_in_bytes = UINT64_MAX,
		.guest_swap_out_bytes = UINT64_MAX,
		.guest_major_faults = UINT64_MAX,
		.guest_minor_faults = UINT64_MAX,
		.guest_free_bytes = UINT64_MAX,
		.guest_total_bytes = UINT64_MAX,
		.guest_available_bytes = UINT64_MAX,
		.guest_disk_caches_bytes = UINT64_MAX,
		.ram_mappings = 1,
		.pool_attached = v->pool_attached,
	};
	for (uint64_t i = 0; i < n; i += 512) {
		if (pagemap_read(fd, (uint64_t)(uintptr_t)v->ram + i * PAGE_BYTES, 512, entries) <
			0)
			exit(3);
		for (int k = 0; k < 512; k++) {
			if (entries[k] & PAGEMAP_SWAPPED)
				s->swapped_pages++;
			else if (entries[k] & PAGEMAP_PRESENT)
				s->private_pages++;
			else
				holes++;
		}
	}
	s->hole_untouched_pages = holes - v->balloon_pages + lie;
	s->private_pages -= lie;
}

static void say_event(int fd, const struct vmm *v, const char *reason)
{
	struct vmm_event event = {.state = v->state};

	snprintf(event.reason, sizeof(event.reason), "%s", reason);
	ipc_send(fd, VMM_EVENT, 0, &event, sizeof(event), NULL, 0);
}

static void say_hello(int fd, const struct vmm *v)
{
	bool renewed = told(v, "renews") && v->n_connections > 1;
	struct vmm_hello hello = {
		.proto_version = VMM_PROTO_VERSION + renewed,
		.state = v->state,
		.n_vcpus = v->n_vcpus,
		.n_ranges = 1,
		.ram_bytes = v->ram_bytes,
		.ranges[0] = {.hva = (uint64_t)(uintptr_t)v->ram, .bytes = v->ram_bytes},
	};

	snprintf(hello.name, sizeof(hello.name), "%s", v->name);
	ipc_send(fd, VMM_HELLO, 0, &hello, sizeof(hello), NULL, 0);
	if (told(v, "garbage"))
		ipc_send(fd, 999, 0, "?", 1, NULL, 0);
}

/* Returns false when the process shall end. */
static bool handle(int fd, struct vmm *v, struct ipc_message *m)
{
	const struct vmm_set_balloon *balloon = IPC_PAYLOAD(m, struct vmm_set_balloon);
	struct vmm_done done = {0};
	struct {
		struct vmm_stats known;
		uint64_t unknown;
	} stats = {.unknown = 1};
	size_t size = told(v, "new")   ? sizeof(stats)
		      : told(v, "old") ? VMM_STATS_MIN_BYTES
				       : sizeof(stats.known);

	switch (m->header.type) {
	case VMM_GET_STATS:
		if (told(v, "no_stats"))
			return true;
		read_stats(v, &stats.known);
		ipc_send(fd, VMM_STATS, m->header.seq, &stats, size, NULL, 0);
		return true;
	case VMM_SET_BALLOON:
		if (balloon)
			set_balloon(v, balloon->target_pages);
		break;
	case VMM_PAUSE:
		v->state = VMM_STATE_PAUSED;
		break;
	case VMM_RESUME:
		v->state = VMM_STATE_RUNNING;
		break;
	case VMM_ATTACH_POOL:
		v->pool_attached = m->n_fds == 1;
		break;
	default:
		break;
	}
	ipc_send(fd, VMM_DONE, m->header.seq, &done, sizeof(done), NULL, 0);
	if (m->header.type == VMM_POWER_BUTTON && !told(v, "no_power")) {
		v->state = VMM_STATE_POWERED_OFF;
		say_event(fd, v, "powered off");
		return false;
	}
	return m->header.type != VMM_QUIT;
}

static int serve(int listen_fd, struct vmm *v)
{
	_cleanup_(ipc_message_freep) struct ipc_message *m = ipc_message_new();

	for (;;) {
		_cleanup_close_ int fd = ipc_accept(listen_fd);

		if (fd < 0)
			return 1;
		if (told(v, "mute"))
			for (;;)
				pause();
		v->n_connections++;
		say_hello(fd, v);
		while (ipc_recv(fd, m) == 0)
			if (!handle(fd, v, m))
				return 0;
	}
}

int main(int argc, char *argv[])
{
	static const struct option options[] = {
		{"name", required_argument, NULL, 'n'},
		{"memory", required_argument, NULL, 'm'},
		{"vcpus", required_argument, NULL, 'v'},
		{"cmdline", required_argument, NULL, 'c'},
		{"listen-fd", required_argument, NULL, 'l'},
		{"error-fd", required_argument, NULL, 'e'},
		{"kernel", required_argument, NULL, 'x'},
		{"initrd", required_argument, NULL, 'x'},
		{"console", required_argument, NULL, 'x'},
		{"console-max", required_argument, NULL, 'x'},
		{"disk", required_argument, NULL, 'x'},
		{"net", required_argument, NULL, 'x'},
		{"rng", no_argument, NULL, 'x'},
		{"vsock", required_argument, NULL, 'x'},
		{0},
	};
	struct vmm v = {.cmdline = "", .state = VMM_STATE_RUNNING};
	int listen_fd = -1, error_fd = -1, c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 'n')
			v.name = optarg;
		else if (c == 'm')
			v.ram_bytes = strtoull(optarg, NULL, 10);
		else if (c == 'v')
			v.n_vcpus = (uint32_t)atoi(optarg);
		else if (c == 'c')
			v.cmdline = optarg;
		else if (c == 'l')
			listen_fd = atoi(optarg);
		else if (c == 'e')
			error_fd = atoi(optarg);
	}
	if (told(&v, "fail")) {
		dprintf(error_fd, "the fake was told to fail\n");
		return 1;
	}
	close(error_fd);
	v.ram = mmap(NULL, v.ram_bytes + CHUNK_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (v.ram == MAP_FAILED)
		return 1;
	v.ram += CHUNK_BYTES - (uintptr_t)v.ram % CHUNK_BYTES;
	for (uint64_t i = 0; i < number(&v, "touch_mib=", 8) * MIB; i += 8)
		memcpy(v.ram + i, &(uint64_t){i / PAGE_BYTES * 0x9e3779b97f4a7c15}, 8);
	return serve(listen_fd, &v);
}
