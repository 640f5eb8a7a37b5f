/*
 * bench-policy-process [--json]: what a policy costs that is no part of memd: a tick at 10, 100 and
 * 1000 guests, in memd (proportional), as a plugin in memd-policy (even.so) and as a program that is
 * asked in lines of JSON (even.py). For each: the time from asking to the decision, and memd's own
 * CPU time of it, medians of the rounds.
 */
#include <inttypes.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memd/base/clock.h"
#include "memd/base/units.h"
#include "memd/policy-run.h"

#define ROUNDS	 301
#define LIMIT_US (30 * US_PER_S)
#define N_MAX	 1000

struct bench {
	char build[512];
	char directory[40];
	sd_event *event;
	struct host_config config;
	bool decided, failed;
	uint64_t cpu_us;
};

struct result {
	uint64_t wait_us, own_us, policy_us;
};

static void on_decided(void *context, const struct policy_outcome *outcome)
{
	struct bench *b = context;

	b->decided = true;
	b->failed = outcome->fell_back;
	b->cpu_us = outcome->policy_cpu_us;
}

static const struct policy_run_ops ops = {.decided = on_decided};

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static uint64_t median(uint64_t *values, size_t n)
{
	qsort(values, n, sizeof(*values), compare);
	return values[n / 2];
}

static int set_up(struct bench *b)
{
	char command[2048];
	ssize_t n = readlink("/proc/self/exe", b->build, sizeof(b->build) - 1);

	if (n < 0)
		return -errno;
	for (unsigned i = 0; i < 3; i++) /* build/PRESET/tests/bench/bench-NAME */
		dirname(b->build);
	strcpy(b->directory, "/tmp/bench-policy.XXXXXX");
	if (!mkdtemp(b->directory))
		return -errno;
	/* where memd-policy, as nobody, gets at them, and only root writes */
	snprintf(command, sizeof(command),
		"chmod 755 %s && install -m 644 %s/tests/abi/even.so %s && "
		"install -m 755 " MEMD_SOURCE_DIR "/policy/examples/even.py %s",
		b->directory, b->build, b->directory, b->directory);
	if (system(command) != 0 || sd_event_new(&b->event) < 0)
		return -EIO;
	return host_config_init(&b->config);
}

/* [Policy exec] Command=. */
static int add_command(struct bench *b)
{
	struct config_section *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	b->config.policies = p;
	b->config.n_policies = 1;
	p->name = strdup("exec");
	p->pairs = calloc(1, sizeof(*p->pairs));
	p->n_pairs = 1;
	p->pairs[0].key = strdup("Command");
	return asprintf(&p->pairs[0].value, "%s/even.py", b->directory) < 0 ? -ENOMEM : 0;
}

static void make_guests(struct policy_guest *guests, size_t n)
{
	for (size_t i = 0; i < n; i++)
		guests[i] = (struct policy_guest){.view = {.name = "guest-of-a-usual-name",
							  .id = i + 1,
							  .flags = MEMD_GUEST_CAN_PAGE,
							  .shares = 1000,
							  .configured_bytes = GIB,
							  .min_bytes = 128 * MIB,
							  .max_bytes = GIB,
							  .target_bytes = 512 * MIB,
							  .resident_bytes = (300 + i % 300) * MIB,
							  .swapped_bytes = i % 50 * MIB}};
}

static int measure(struct bench *b, struct policy_run *run, size_t n, struct result *ret)
{
	static struct policy_guest guests[N_MAX];
	static uint64_t waits[ROUNDS], own[ROUNDS], policy[ROUNDS];
	struct memd_host_view host = {
		.tick_us = US_PER_S, .budget_bytes = n * 400 * MIB, .overhead_bytes = 50 * MIB};

	make_guests(guests, n);
	for (size_t i = 0; i < ROUNDS; i++) {
		uint64_t begin_us = clock_monotonic_us(), begin_cpu_us = clock_thread_cpu_us();
		int r;

		host.now_us = i * US_PER_S;
		b->decided = false;
		r = policy_run_evaluate(run, &host, guests, n, LIMIT_US);
		while (r >= 0 && !b->decided)
			r = sd_event_run(b->event, UINT64_MAX);
		if (r < 0 || b->failed)
			return r < 0 ? r : -EIO;
		waits[i] = clock_monotonic_us() - begin_us;
		own[i] = clock_thread_cpu_us() - begin_cpu_us;
		policy[i] = b->cpu_us;
	}
	*ret = (struct result){median(waits, ROUNDS), median(own, ROUNDS), median(policy, ROUNDS)};
	return 0;
}

static int bench_policy(struct bench *b, const char *policy, struct result ret[3])
{
	static const size_t counts[3] = {10, 100, N_MAX};
	char program[600];
	struct policy_run_options options = {
		.event = b->event,
		.program = program,
		.config = &b->config,
		.policy = policy,
		.ops = &ops,
		.context = b,
	};
	struct policy_run *run = NULL;
	struct error e = {0};
	int r;

	snprintf(program, sizeof(program), "%s/policy/memd-policy", b->build);
	r = policy_run_new(&options, &run, &e);
	if (r == 0)
		r = policy_run_wait(run, &e);
	for (size_t i = 0; r == 0 && i < 3; i++)
		r = measure(b, run, counts[i], &ret[i]);
	policy_run_free(run);
	if (r < 0)
		fprintf(stderr, "bench-policy-process: %s: %s\n", policy,
			e.text[0] ? e.text : strerror(-r));
	return r;
}

static void print(const char *name, const struct result r[3], bool json)
{
	static const int counts[3] = {10, 100, N_MAX};

	for (size_t i = 0; i < 3; i++) {
		if (json)
			printf("%s\"%s_wait_ms_%d\":%.3f,\"%s_memd_cpu_ms_%d\":%.3f,\"%s_policy_"
			       "cpu_ms_%d\":%.3f",
				strcmp(name, "builtin") == 0 && i == 0 ? "{" : ",", name, counts[i],
				(double)r[i].wait_us / 1e3, name, counts[i],
				(double)r[i].own_us / 1e3, name, counts[i],
				(double)r[i].policy_us / 1e3);
		else
			printf("%-8s %5d guests: decided after %7.3f ms, of memd's CPU %7.3f ms, "
			       "of the "
			       "policy's %7.3f ms\n",
				name, counts[i], (double)r[i].wait_us / 1e3,
				(double)r[i].own_us / 1e3, (double)r[i].policy_us / 1e3);
	}
}

int main(int argc, char *argv[])
{
	bool json = argc == 2 && strcmp(argv[1], "--json") == 0;
	struct result builtin[3], plugin[3], program[3];
	struct bench b = {0};
	char command[80];
	int r = set_up(&b);

	if (r == 0)
		r = bench_policy(&b, "proportional", builtin);
	b.config.policy_dir = (free(b.config.policy_dir), strdup(b.directory));
	if (r == 0)
		r = bench_policy(&b, "even", plugin);
	if (r == 0)
		r = add_command(&b);
	if (r == 0)
		r = bench_policy(&b, "exec", program);
	if (r == 0) {
		print("builtin", builtin, json);
		print("plugin", plugin, json);
		print("exec", program, json);
		puts(json ? "}" : "");
	}
	host_config_done(&b.config);
	sd_event_unref(b.event);
	snprintf(command, sizeof(command), "rm -rf %s", b.directory);
	return system(command) != 0 || r < 0;
}
