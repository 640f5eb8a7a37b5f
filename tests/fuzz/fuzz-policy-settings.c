/* Settings of the built-in policies, as an operator or his tools may write them. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "memd/base/cleanup.h"
#include "policy/policy-host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Lines of `POLICY KEY=VALUE`. */
static void try_line(char *line)
{
	char *key = strchr(line, ' '), *value = key ? strchr(key, '=') : NULL;
	const struct memd_policy *policy;
	struct policy_host *h = NULL;

	if (!value)
		return;
	*key++ = '\0';
	*value++ = '\0';
	policy = policy_find_builtin(line);
	if (policy && policy_host_new(policy, &(struct policy_setting){key, value}, 1, NULL, &h,
			      NULL) == 0) {
		struct policy_guest g = {.view = {.name = "db-1",
						 .id = 1,
						 .shares = 1,
						 .configured_bytes = 1 << 28,
						 .max_bytes = 1 << 28,
						 .resident_bytes = 1 << 27}};
		struct memd_host_view host = {.budget_bytes = 1 << 27, .tick_us = 1000000};
		struct policy_decision d;

		if (policy_host_evaluate(h, &host, &g, 1, &d, NULL) != 0)
			abort();
	}
	policy_host_free(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = malloc(size + 1);
	char *rest = NULL;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		try_line(line);
	return 0;
}
