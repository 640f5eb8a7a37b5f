/* Runs in the paging worker: system calls on another process, nothing else. */
#include "memd/pageout.h"

#include <sys/mman.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/units.h"

static int page_out(const struct sample_process *process, struct pageout_region *region)
{
	uint64_t address = sample_region_address(process, region->number);
	ssize_t n = fd_process_madvise(process->pidfd, address, CHUNK_BYTES, MADV_PAGEOUT);

	/*
	 * EINVAL, ENOMEM: part of it is being mapped anew; what was advised before that counts, and
	 * the pagemap tells.
	 */
	if (n < 0 && n != -EINVAL && n != -ENOMEM)
		return (int)n;
	return sample_read_region(process, region->number, &region->after);
}

void pageout_run(struct job *j)
{
	struct pageout *p = (struct pageout *)j;
	uint64_t cpu_us = clock_thread_cpu_us();

	p->begun_us = clock_monotonic_us();
	while (p->n_done < p->n_regions && !worker_stopping(p->worker) &&
		clock_monotonic_us() - p->begun_us < p->time_limit_us) {
		p->result = page_out(p->process, &p->regions[p->n_done]);
		if (p->result < 0)
			break;
		p->n_done++;
	}
	p->done_us = clock_monotonic_us();
	p->cpu_us = clock_thread_cpu_us() - cpu_us;
}
