/* Configuring and opening a policy; see open-policy.h. */
#include "policy/open-policy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/text.h"

/* A policy that does not ask for anything else to be said gets a log that goes nowhere. */
static void log_nothing(void *host, int level, const char *line)
{
	(void)host;
	(void)level;
	(void)line;
}

/* While it is configured, what it says is why a setting is refused. */
struct listener {
	const struct memd_host_calls *calls; /* NULL: nobody else listens */
	char said[200];
};

static void on_log(void *host, int level, const char *line)
{
	struct listener *l = host;

	snprintf(l->said, sizeof(l->said), "%s", line);
	text_clean(l->said);
	if (l->calls)
		l->calls->log(l->calls->host, level, line);
}

static int refuse_setting(const struct listener *l, const char *section,
	const struct policy_setting *s, int r, struct error *e)
{
	if (strncmp(l->said, s->key, strlen(s->key)) == 0) /* it names the setting itself */
		return error_set(e, r, "[%s]: %s", section, l->said);
	if (l->said[0])
		return error_set(e, r, "[%s]: %s=%s: %s", section, s->key, s->value, l->said);
	return error_set(
		e, r, "[%s]: %s=%s is refused: %s", section, s->key, s->value, strerror(-r));
}

static int configure(const struct memd_policy *p, const char *section,
	const struct policy_setting *settings, size_t n, const struct memd_host_calls *calls,
	struct error *e)
{
	struct listener listener = {.calls = calls};
	const struct memd_host_calls heard = {
		.size = sizeof(heard), .log = on_log, .host = &listener};
	int r;

	for (size_t i = 0; i < n; i++) {
		if (!p->config)
			return error_set(e, -EINVAL,
				"[%s]: %s=: the policy %s takes no settings", section,
				settings[i].key, p->name);
		listener.said[0] = '\0';
		r = p->config(&heard, settings[i].key, settings[i].value);
		if (r < 0)
			return refuse_setting(&listener, section, &settings[i], r, e);
	}
	listener.said[0] = '\0';
	r = p->config_complete ? p->config_complete(&heard) : 0;
	if (r < 0)
		return error_set(e, r, "[%s]: its settings do not fit together: %s", section,
			listener.said[0] ? listener.said : strerror(-r));
	return 0;
}

int policy_open(const struct memd_policy *policy, const char *section,
	const struct policy_setting *settings, size_t n_settings,
	const struct memd_host_calls *calls, struct open_policy *ret, struct error *e)
{
	int r;

	*ret = (struct open_policy){
		.policy = policy,
		.calls = {.size = sizeof(ret->calls), .log = log_nothing},
	};
	if (calls) {
		ret->calls.log = calls->log;
		ret->calls.host = calls->host;
	}
	r = configure(policy, section, settings, n_settings, calls, e);
	if (r == 0 && policy->open) {
		r = policy->open(&ret->calls, &ret->state);
		if (r < 0)
			error_set(e, r, "the policy %s does not start: %s", policy->name,
				strerror(-r));
	}
	if (r < 0)
		*ret = (struct open_policy){0}; /* not opened, so not closed */
	return r;
}

void policy_close(struct open_policy *p)
{
	if (p->policy && p->policy->close)
		p->policy->close(p->state);
	*p = (struct open_policy){0};
}
