/* See pageout-run.h. */
#include "tests/guest/pageout-run.h"

#include <sys/mman.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/units.h"

static void *page_out(void *arg)
{
	struct pageout_run *p = arg;

	/* by a step that is prime to the number of pieces: neighbours do not go out together */
	for (uint64_t chunk = 0; !atomic_load(&p->stop); chunk += 7) {
		fd_process_madvise(p->pidfd,
			p->hva + chunk % (p->bytes / CHUNK_BYTES) * CHUNK_BYTES, CHUNK_BYTES,
			MADV_PAGEOUT);
		clock_sleep_us(p->interval_us);
	}
	return NULL;
}

int pageout_run_start(struct pageout_run *p, const struct vmm_run *v, uint64_t interval_us)
{
	const struct vmm_range *ram = &vmm_run_hello(v)->ranges[0];
	int r;

	*p = (struct pageout_run){
		.hva = ram->hva,
		.bytes = ram->bytes,
		.interval_us = interval_us,
		.pidfd = fd_pidfd_open(vmm_run_pid(v)),
	};
	if (p->pidfd < 0) {
		r = p->pidfd;
		*p = (struct pageout_run){0};
		return r;
	}
	r = -pthread_create(&p->thread, NULL, page_out, p);
	p->started = r == 0;
	if (r < 0)
		cleanup_closep(&p->pidfd);
	return r;
}

void pageout_run_done(struct pageout_run *p)
{
	if (!p->started)
		return;
	atomic_store(&p->stop, true);
	pthread_join(p->thread, NULL);
	cleanup_closep(&p->pidfd);
	p->started = false;
}
