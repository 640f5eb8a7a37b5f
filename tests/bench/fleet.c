/* See fleet.h. */
#include "tests/bench/fleet.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/overflow.h"
#include "memd/base/procfs.h"
#include "memd/base/units.h"
#include "tests/bench/ksm.h"

#define WAIT_MS	    120000
#define BOOT_MS	    15000
/* In one of some hundred starts a freestanding guest on KVM's PVM back end dies of a triple fault. */
#define TRIES	    3
#define EXTRA_BYTES (16 * MIB) /* for the guest's own tables and program */
#define FILL_PAGES  512
#define LOOK_US	    (2 * US_PER_MS)

static uint64_t hva_of(const struct vmm_run *v, uint64_t gpa)
{
	const struct vmm_range *range = &vmm_run_hello(v)->ranges[0];

	return range->hva + (gpa - range->gpa);
}

static int start_guest(struct fleet *f, const struct fleet_options *o)
{
	struct fleet_guest *g = &f->guests[f->n_guests];
	uint64_t mib = o->n_pages * PAGE_BYTES / MIB, hot = layout_hot_pages(o->layout);
	char cmdline[256], path[40];
	const struct vmm_run_options options = {
		.cmdline = cmdline,
		.memory_bytes =
			u64_align_up(mib * MIB + mib * MIB / 256 + EXTRA_BYTES, CHUNK_BYTES),
		.n_vcpus = 1,
	};
	int r;

	snprintf(cmdline, sizeof(cmdline),
		"mode=loaded timer_hz=20 loaded_mib=%" PRIu64 " loaded_per_s=%" PRIu64
		" loaded_hot_mib=%" PRIu64 " loaded_rewrite_per_s=%" PRIu64,
		mib, o->load_per_s, hot * PAGE_BYTES / MIB, hot ? o->load_per_s : 0);
	g->mem_fd = -1;
	r = vmm_run_start(&options, &g->vmm);
	if (r == 0 && !vmm_run_wait_text(g->vmm, "memd-guest: loaded", BOOT_MS))
		r = -ETIMEDOUT;
	if (r < 0) {
		vmm_run_free(g->vmm);
		g->vmm = NULL;
		return r;
	}
	f->n_guests++;
	g->loaded_hva = hva_of(g->vmm, vmm_run_value(g->vmm, "gpa", 0));
	g->control_hva = hva_of(g->vmm, vmm_run_value(g->vmm, "control", 0));
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)vmm_run_pid(g->vmm));
	g->mem_fd = open(path, O_RDWR | O_CLOEXEC);
	return g->mem_fd < 0 ? -errno : 0;
}

static int fill_guest(const struct fleet *f, unsigned i, const struct fleet_options *o)
{
	_cleanup_free_ uint8_t *buffer = malloc(FILL_PAGES * PAGE_BYTES);
	int r = buffer ? 0 : -ENOMEM;

	for (uint64_t page = 0, n; r == 0 && page < o->n_pages; page += n) {
		n = u64_min(FILL_PAGES, o->n_pages - page);
		layout_fill(o->layout, i, page, n, buffer);
		r = fd_pwrite_full(f->guests[i].mem_fd, buffer, n * PAGE_BYTES,
			(off_t)(f->guests[i].loaded_hva + page * PAGE_BYTES));
	}
	return r;
}

static int start_pool(struct fleet *f)
{
	static const char *const no_arguments[] = {NULL};
	int r = service_run_init(&f->pool);

	if (r == 0)
		r = service_run_start(&f->pool, "dedup/memd-pool", no_arguments);
	if (r < 0)
		return r;
	f->pool_fd = service_run_connect(&f->pool);
	return f->pool_fd < 0 ? f->pool_fd : 0;
}

static int start_all(struct fleet *f, const struct fleet_options *o)
{
	int r = o->mergeable ? ksm_merge_children(1) : start_pool(f);

	for (unsigned i = 0; r == 0 && i < o->n_guests; i++)
		for (unsigned try = 0; try < TRIES && (try == 0 || r < 0); try++)
			r = start_guest(f, o);
	if (o->mergeable) {
		ksm_merge_children(0);
		for (unsigned i = 0; r == 0 && i < f->n_guests; i++)
			if (!ksm_is_merged(vmm_run_pid(f->guests[i].vmm)))
				r = -EOPNOTSUPP;
	}
	for (unsigned i = 0; r == 0 && i < f->n_guests; i++)
		r = fill_guest(f, i, o);
	return r;
}

int fleet_start(struct fleet *f, const struct fleet_options *o, struct error *e)
{
	struct loaded_control sum;
	int r;

	*f = (struct fleet){.pool_fd = -1};
	f->message = ipc_message_new();
	r = f->message ? start_all(f, o) : -ENOMEM;
	if (r == 0)
		r = fleet_order(f, LOADED_TAKE_SUMS, 0, 0, &sum);
	return r < 0 ? error_set(e, r, "starting guests: %s", strerror(-r)) : 0;
}

void fleet_done(struct fleet *f)
{
	for (unsigned i = 0; i < f->n_guests; i++) {
		cleanup_closep(&f->guests[i].mem_fd);
		vmm_run_free(f->guests[i].vmm);
	}
	if (f->message)
		cleanup_closep(&f->pool_fd);
	service_run_done(&f->pool);
	ipc_message_free(f->message);
	*f = (struct fleet){0};
}

int fleet_share(struct fleet *f, uint32_t max_cpu_bp, uint64_t target_time_us, struct error *e)
{
	const struct vmm_set_scan scan = {
		.mode = VMM_SCAN_SHARE, .max_cpu_bp = max_cpu_bp, .target_time_us = target_time_us};

	for (unsigned i = 0; i < f->n_guests; i++) {
		_cleanup_close_ int fd = service_run_connect(&f->pool);
		int r = fd < 0 ? fd : vmm_run_attach_pool(f->guests[i].vmm, fd);

		if (r == 0)
			r = vmm_run_request(f->guests[i].vmm, VMM_SET_SCAN, &scan, sizeof(scan));
		if (r < 0)
			return error_set(e, r, "guest %u does not share: %s", i, strerror(-r));
	}
	return 0;
}

static int read_control(const struct fleet_guest *g, struct loaded_control *ret)
{
	return fd_pread_full(g->mem_fd, ret, sizeof(*ret), (off_t)g->control_hva);
}

static void add_up(struct loaded_control *sum, const struct loaded_control *c)
{
	sum->n_pages += c->n_pages;
	sum->ns += c->ns;
	sum->verified += c->verified;
	sum->corrupt += c->corrupt;
	sum->written += c->written;
}

static int give_order(struct fleet_guest *g, const struct loaded_control *c)
{
	const off_t at = (off_t)g->control_hva;
	int r = fd_pwrite_full(g->mem_fd, &c->verb, 3 * sizeof(uint64_t),
		at + (off_t)offsetof(struct loaded_control, verb));

	g->order++;
	return r < 0 ? r : fd_pwrite_full(g->mem_fd, &g->order, sizeof(g->order), at);
}

static int await_order(const struct fleet_guest *g, struct loaded_control *sum)
{
	uint64_t deadline_us = clock_monotonic_us() + WAIT_MS * US_PER_MS;
	struct loaded_control c = {0};

	for (;;) {
		int r = read_control(g, &c);

		if (r < 0)
			return r;
		if (c.done == g->order)
			break;
		if (clock_monotonic_us() >= deadline_us)
			return -ETIMEDOUT;
		clock_sleep_us(LOOK_US);
	}
	add_up(sum, &c);
	return 0;
}

int fleet_order(struct fleet *f, enum loaded_verb verb, uint64_t stride, uint64_t offset,
	struct loaded_control *ret_sum)
{
	const struct loaded_control c = {.verb = verb, .stride = stride, .offset = offset};
	int r = 0;

	*ret_sum = (struct loaded_control){0};
	for (unsigned i = 0; r == 0 && i < f->n_guests; i++)
		r = give_order(&f->guests[i], &c);
	for (unsigned i = 0; r == 0 && i < f->n_guests; i++)
		r = await_order(&f->guests[i], ret_sum);
	return r;
}

int fleet_order_one(struct fleet *f, unsigned guest, enum loaded_verb verb, uint64_t stride,
	uint64_t offset, struct loaded_control *ret)
{
	const struct loaded_control c = {.verb = verb, .stride = stride, .offset = offset};
	int r = give_order(&f->guests[guest], &c);

	*ret = (struct loaded_control){0};
	return r < 0 ? r : await_order(&f->guests[guest], ret);
}

int fleet_stats(struct fleet *f, struct vmm_stats ret[FLEET_GUESTS_MAX])
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < f->n_guests; i++)
		r = vmm_run_get_stats(f->guests[i].vmm, &ret[i]);
	return r;
}

int fleet_pool_stats(struct fleet *f, struct pool_stats *ret)
{
	const struct pool_stats *stats;
	int r = ipc_send(f->pool_fd, POOL_GET_STATS, 1, NULL, 0, NULL, 0);

	if (r == 0)
		r = ipc_recv(f->pool_fd, f->message);
	if (r != 0)
		return r < 0 ? r : -EPIPE;
	stats = IPC_PAYLOAD(f->message, struct pool_stats);
	if (!stats)
		return -EPROTO;
	*ret = *stats;
	return 0;
}

struct meter_vmm fleet_cpu(const struct fleet *f)
{
	struct meter_vmm sum = {0};

	for (unsigned i = 0; i < f->n_guests; i++)
		meter_vmm_add(vmm_run_pid(f->guests[i].vmm), &sum);
	return sum;
}

uint64_t fleet_pool_cpu_us(const struct fleet *f)
{
	return f->pool.pid > 0 ? meter_thread_us(f->pool.pid, f->pool.pid) : 0;
}

uint64_t fleet_anonymous_pages(const struct fleet *f)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < f->n_guests; i++)
		sum += meter_anonymous_pages(vmm_run_pid(f->guests[i].vmm));
	return sum;
}

struct fleet_memory fleet_memory(const struct fleet *f)
{
	struct fleet_memory m = {0};

	for (unsigned i = 0; i < f->n_guests; i++) {
		struct smaps_rollup rollup;
		uint64_t tables;

		if (procfs_read_smaps_rollup(vmm_run_pid(f->guests[i].vmm), &rollup) == 0) {
			m.anonymous_bytes += rollup.anonymous_bytes;
			m.pss_anon_bytes += rollup.pss_anon_bytes;
		}
		if (procfs_read_page_table_bytes(vmm_run_pid(f->guests[i].vmm), &tables) == 0)
			m.page_table_bytes += tables;
	}
	return m;
}
