/*
 * One sample of one guest of memd-vmm: what memd-vmm claims, what the kernel says, what memd-vmm claims then.
 * Three steps, none of which waits; a memd-vmm that does not answer leaves the sample without
 * figures.
 */
#include "memd/guest-internal.h"

static void on_after(void *context, int error, const struct ipc_message *reply)
{
	struct guest *g = context;

	guest_sample_ended(g,
		vmm_link_parse_stats(error, reply, g->config.memory_bytes, &g->sample.after) == 0);
}

static void on_kernel(void *context, int error, struct kernel_sample *s)
{
	struct guest *g = context;

	g->sample.reading = NULL;
	if (error == 0) {
		kernel_sample_done(&g->sample.kernel);
		g->sample.kernel = *s;
	}
	g->sample.phase = GUEST_SAMPLE_AFTER;
	if (error < 0 || !g->link ||
		vmm_link_get_stats(g->link, GUEST_SAMPLE_TIMEOUT_US, on_after, g) < 0)
		guest_sample_ended(g, false);
}

static void on_before(void *context, int error, const struct ipc_message *reply)
{
	struct guest *g = context;

	g->sample.phase = GUEST_SAMPLE_KERNEL;
	if (vmm_link_parse_stats(error, reply, g->config.memory_bytes, &g->sample.before) < 0 ||
		process_sampler_begin(
			g->environment->sampler, g->process, on_kernel, g, &g->sample.reading) < 0)
		guest_sample_ended(g, false);
}

bool guest_vmm_sample_begin(struct guest *g)
{
	if (vmm_link_get_stats(g->link, GUEST_SAMPLE_TIMEOUT_US, on_before, g) < 0)
		return false;
	g->sample.phase = GUEST_SAMPLE_BEFORE;
	return true;
}

void guest_vmm_sample_cancel(struct guest *g)
{
	process_sampler_cancel(g->sample.reading);
	g->sample.reading = NULL;
}
