/* See history.h. */
#include "memd/history.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/fd.h"
#include "memd/base/log.h"
#include "memd/base/overflow.h"
#include "memd/guest.h"

#define AGAIN_S 60

static uint32_t kib(uint64_t bytes)
{
	return (uint32_t)u64_min(bytes / KIB, UINT32_MAX - 1);
}

static struct history_record describe(const struct guest *g, uint64_t now_s)
{
	const struct ledger_guest *l = &g->ledger;
	const struct wss_figures *w = &g->wss.figures;

	return (struct history_record){
		.time_s = (uint32_t)now_s,
		.configured_kib = kib(g->config.memory_bytes),
		.target_kib = kib(g->target_bytes),
		.resident_kib = kib(l->resident_bytes),
		.private_kib = kib(l->private_bytes),
		.shared_kib = kib(l->shared_bytes),
		.swapped_kib = kib(l->swapped_bytes),
		.balloon_kib = kib(l->hole_balloon_bytes),
		.working_set_kib = w->valid ? kib(w->bytes) : HISTORY_UNKNOWN,
		.working_set_error_kib = w->valid ? kib(w->error_bytes) : HISTORY_UNKNOWN,
		.stall_some_bp = (uint16_t)g->stall.figures.some_10_bp,
		.stall_full_bp = (uint16_t)g->stall.figures.full_10_bp,
		.refault_kib = kib(g->reclaim.refault_pages_last * PAGE_BYTES),
	};
}

static int open_for_writing(const char *state_dir, const char *name)
{
	char path[4096];
	int r;

	snprintf(path, sizeof(path), "%s/history", state_dir);
	r = fd_mkdir_parents(path, 0750);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/history/%s", state_dir, name);
	return history_file_open(path);
}

static int put(struct history *h, const struct history_record *r)
{
	uint64_t minute = r->time_s / 60;
	int e = 0;

	if (h->n_minute && h->minute[0].time_s / 60 != minute) {
		struct history_record a = history_average(h->minute, h->n_minute);

		a.time_s = a.time_s / 60 * 60;
		h->n_minute = 0;
		e = history_file_put_minute(h->fd, &a);
	}
	/* With a tick shorter than a second, the last of each second counts. */
	if (h->n_minute && h->minute[h->n_minute - 1].time_s == r->time_s)
		h->n_minute--;
	if (h->n_minute < ARRAY_SIZE(h->minute))
		h->minute[h->n_minute++] = *r;
	return e < 0 ? e : history_file_put_second(h->fd, r);
}

void history_note(struct history *h, const char *state_dir, const struct guest *g, uint64_t now_s)
{
	struct history_record record = describe(g, now_s);
	int r = 0;

	if (!h->open) {
		if (now_s < h->again_s)
			return;
		r = open_for_writing(state_dir, g->name);
		h->open = r >= 0;
		h->fd = r;
	}
	if (h->open)
		r = put(h, &record);
	if (r >= 0)
		return;
	log_warning("guest %s: its history in %s/history is not written: %s; trying again in a "
		    "minute",
		g->name, state_dir, strerror(-r));
	history_done(h);
	h->again_s = now_s + AGAIN_S;
}

void history_done(struct history *h)
{
	if (h->open)
		close(h->fd);
	*h = (struct history){0};
}

int history_open_read(const char *state_dir, const char *name)
{
	char path[4096];
	int fd;

	if (!guest_name_valid(name, NULL))
		return -EINVAL;
	snprintf(path, sizeof(path), "%s/history/%s", state_dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}
