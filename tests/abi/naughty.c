/*
 * A plugin that misbehaves as its setting Do= says, for the tests of what memd does about it. `good`
 * proposes half of each guest's RAM.
 */
#include <errno.h>
#include <fcntl.h>
#include <memd/policy.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static char what[32] = "good";

static bool is(const char *deed)
{
	return strcmp(what, deed) == 0;
}

static void crash(void)
{
	static int *volatile nowhere;

	*nowhere = 1;
}

static void hang(void)
{
	for (volatile unsigned long i = 0;; i++)
		;
}

static int config(const struct memd_host_calls *calls, const char *key, const char *value)
{
	if (strcmp(key, "Do") != 0) {
		calls->log(calls->host, 3, "there is only Do=");
		return -EINVAL;
	}
	snprintf(what, sizeof(what), "%s", value);
	if (is("crash-in-config"))
		crash();
	return 0;
}

static int open_policy(const struct memd_host_calls *calls, void **ret_state)
{
	(void)ret_state;
	if (is("refuse-open")) {
		calls->log(calls->host, 3, "not today");
		return -EAGAIN;
	}
	if (is("crash-in-open"))
		crash();
	if (is("hang-in-open"))
		hang();
	return 0;
}

/* Everything that it should not be able to do; the names of what it could all the same. */
static void try_to_break_out(char *reason, size_t size)
{
	const struct {
		const char *name;
		bool done;
	} deeds[] = {
		{"reads a file", open("/etc/passwd", O_RDONLY) >= 0},
		{"writes a file", open("/tmp/naughty", O_WRONLY | O_CREAT, 0600) >= 0},
		{"opens a socket", socket(AF_INET, SOCK_STREAM, 0) >= 0},
		{"forks", fork() >= 0},
		{"writes to the log", write(2, "naughty\n", 8) == 8},
		{"signals memd", kill(getppid(), 0) == 0},
		{"is root", getuid() == 0 || seteuid(0) == 0},
		{"makes code", mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED},
	};

	snprintf(reason, size, "it could do nothing");
	for (size_t i = 0; i < sizeof(deeds) / sizeof(deeds[0]); i++)
		if (deeds[i].done)
			snprintf(reason, size, "it %s", deeds[i].name);
}

static void allocate_without_end(void)
{
	for (;;) {
		char *more = malloc(1 << 20);

		memset(more, 1, 1 << 20); /* and does not look whether it got any */
	}
}

static void misbehave(unsigned tick)
{
	if (is("crash"))
		crash();
	if (is("hang") || (is("hang-later") && tick > 3))
		hang();
	if (is("allocate"))
		allocate_without_end();
	if (is("exit"))
		_exit(0);
}

/* Longer than a time limit of 50 ms, and over before the third tick at 1 s. */
static void compute_long(void)
{
	for (volatile unsigned long i = 0; i < 400000000UL; i++)
		;
}

static int evaluate(
	void *state, const struct memd_host_view *host, struct memd_proposal *const *proposals)
{
	static unsigned tick;

	(void)state;
	misbehave(++tick);
	if (is("slow-once") && tick == 1)
		compute_long();
	if (is("fail") || (is("lapse") && tick % 3 != 0))
		return -EIO;
	if (is("give-up"))
		return -EPIPE;
	for (uint32_t i = 0; i < host->n_guests; i++) {
		proposals[i]->target_bytes = host->guests[i]->configured_bytes / 2;
		snprintf(proposals[i]->reason, MEMD_REASON_MAX, "half");
		if (is("rubbish"))
			proposals[i]->target_bytes = UINT64_MAX;
		if (is("zero"))
			proposals[i]->target_bytes = 0;
		if (is("say-nothing"))
			proposals[i]->reason[0] = '\0';
		if (is("no-end"))
			memset(proposals[i]->reason, 0xff, MEMD_REASON_MAX);
		if (is("break-out"))
			try_to_break_out(proposals[i]->reason, MEMD_REASON_MAX);
	}
	return 0;
}

const struct memd_policy *memd_policy_get(void)
{
	static const struct memd_policy policy = {
		.size = sizeof(policy),
		.api_version = MEMD_POLICY_API_VERSION,
		.name = "naughty",
		.description = "misbehaves on request",
		.config = config,
		.open = open_policy,
		.evaluate = evaluate,
	};

	return &policy;
}
