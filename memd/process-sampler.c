/* A job around kernel_sample_read. */
#include "memd/process-sampler.h"

struct process_reading {
	struct job job; /* first */
	struct sample_process *process;
	process_sampled_fn sampled; /* NULL: cancelled */
	void *context;
	int result;
	struct kernel_sample sample;
};

static void run(struct job *j)
{
	struct process_reading *reading = (struct process_reading *)j;

	reading->result = kernel_sample_read(reading->process, &reading->sample);
}

static void done(struct job *j)
{
	struct process_reading *reading = (struct process_reading *)j;

	if (reading->sampled)
		reading->sampled(reading->context, reading->result, &reading->sample);
	else if (reading->result == 0)
		kernel_sample_done(&reading->sample);
	sample_process_unref(reading->process);
	free(reading);
}

int process_sampler_begin(struct worker *worker, struct sample_process *process,
	process_sampled_fn sampled, void *context, struct process_reading **ret)
{
	struct process_reading *reading = calloc(1, sizeof(*reading));

	if (!reading)
		return -ENOMEM;
	reading->job.run = run;
	reading->job.done = done;
	reading->process = sample_process_ref(process);
	reading->sampled = sampled;
	reading->context = context;
	reading->result = -ECANCELED; /* until it ran */
	*ret = reading;
	worker_submit(worker, &reading->job);
	return 0;
}

void process_sampler_cancel(struct process_reading *reading)
{
	if (reading)
		reading->sampled = NULL;
}
