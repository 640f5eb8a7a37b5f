/* The verb policy: which there are, and whether one is good. */
#include <stdio.h>
#include <string.h>

#include "memd/base/program.h"
#include "memd/memctl/client.h"
#include "memd/memctl/helper.h"

#define CHECK_ARGUMENTS_MAX 64

static int read_policies(struct memctl *m, sd_bus_error *e, struct json_object *ret)
{
	_cleanup_message_ sd_bus_message *reply = NULL;
	const char *name, *kind, *description;
	int r = client_call(m, MEMD_PATH, MEMD_MANAGER, "ListPolicies", e, &reply, "");

	if (r >= 0)
		r = sd_bus_message_enter_container(reply, 'a', "(sss)");
	while (r >= 0 &&
		(r = sd_bus_message_read(reply, "(sss)", &name, &kind, &description)) > 0) {
		struct json_object *policy = json_object_new_object();

		json_object_object_add(policy, "name", json_object_new_string(name));
		json_object_object_add(policy, "kind", json_object_new_string(kind));
		json_object_object_add(policy, "description", json_object_new_string(description));
		json_object_array_add(ret, policy);
	}
	return r < 0 ? r : 0;
}

static void print_policies(struct json_object *policies, struct json_object *host)
{
	const char *decides = figure_text(host, "policy");
	const char *chosen = figure_text(host, "policy_chosen");

	for (size_t i = 0; i < json_object_array_length(policies); i++) {
		struct json_object *p = json_object_array_get_idx(policies, i);
		const char *name = figure_text(p, "name");

		printf("%c %-16s %-9s %s\n",
			strcmp(name, decides) == 0  ? '*'
			: strcmp(name, chosen) == 0 ? '!'
						    : ' ',
			name, figure_text(p, "kind"), figure_text(p, "description"));
	}
	if (strcmp(decides, chosen) != 0)
		printf("\n! %s is set aside, * %s decides: %s\n", chosen, decides,
			figure_text(host, "policy_set_aside"));
}

static enum memctl_exit list(struct memctl *m)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_json_ struct json_object *policies = json_object_new_array();
	_cleanup_json_ struct json_object *host = NULL;
	enum memctl_exit code = memctl_connect(m);
	int r;

	if (code != MEMCTL_OK)
		return code;
	r = read_policies(m, &e, policies);
	if (r >= 0)
		r = client_properties(m, MEMD_PATH, MEMD_MANAGER, &e, &host);
	if (r < 0)
		return client_report(m, NULL, r, &e);
	if (m->json)
		memctl_print_json(policies);
	else
		print_policies(policies, host);
	return MEMCTL_OK;
}

static bool is_configuration(const char *name)
{
	size_t n = strlen(name), suffix = strlen(".conf");

	return n > suffix && strcmp(name + n - suffix, ".conf") == 0;
}

/* {"policy": NAME, "good": BOOL, "output": TEXT}, or the output as it is. */
static enum memctl_exit report(const struct memctl *m, const char *name, struct helper *h)
{
	_cleanup_json_ struct json_object *object = NULL;
	_cleanup_free_ char *output = NULL;
	size_t n = 0;
	int code;

	if (getdelim(&output, &n, '\0', h->out) < 0) {
		free(output);
		output = strdup("");
	}
	code = helper_end(h);
	if (!m->json) {
		fputs(output ? output : "", stdout);
		return code == 0 ? MEMCTL_OK : MEMCTL_REFUSED;
	}
	object = json_object_new_object();
	json_object_object_add(object, "policy", json_object_new_string(name));
	json_object_object_add(object, "good", json_object_new_boolean(code == 0));
	json_object_object_add(object, "output", json_object_new_string(output ? output : ""));
	memctl_print_json(object);
	return code == 0 ? MEMCTL_OK : MEMCTL_REFUSED;
}

static enum memctl_exit check(struct memctl *m, int argc, char **argv)
{
	bool configuration = argc == 1 && is_configuration(argv[0]);
	char *arguments[CHECK_ARGUMENTS_MAX + 4] = {NULL};
	_cleanup_free_ char *program = NULL;
	struct helper helper;
	size_t n = 1;
	int r;

	if (argc > CHECK_ARGUMENTS_MAX)
		return memctl_fail(m, MEMCTL_USAGE, NULL, "too many settings");
	if (configuration)
		r = program_find(NULL, "memd/memd", "/usr/sbin/memd", &program);
	else
		r = program_find(
			NULL, "policy/memd-policy", "/usr/libexec/memd/memd-policy", &program);
	arguments[0] = program;
	arguments[n++] = (char *)(uintptr_t) "--check";
	if (configuration)
		arguments[n++] = (char *)(uintptr_t) "--config";
	for (int i = 0; i < argc; i++)
		arguments[n++] = argv[i];
	if (r == 0)
		r = helper_start(&helper, arguments, -1, NULL, 0, HELPER_OUTPUT_READ);
	if (r < 0)
		return memctl_fail(
			m, MEMCTL_REFUSED, NULL, "cannot check %s: %s", argv[0], strerror(-r));
	return report(m, argv[0], &helper);
}

enum memctl_exit verb_policy(struct memctl *m, int argc, char **argv)
{
	if (argc == 1 && strcmp(argv[0], "list") == 0)
		return list(m);
	if (argc >= 2 && strcmp(argv[0], "check") == 0)
		return check(m, argc - 1, argv + 1);
	return memctl_fail(m, MEMCTL_USAGE, NULL,
		"usage: memctl policy list, or memctl policy check NAME|FILE [KEY=VALUE...]");
}
