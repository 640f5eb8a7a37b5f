/* Where the ticks and the policy of a replay come from. */
#include <fcntl.h>
#include <string.h>

#include "memd/replay-internal.h"

static int open_next(struct replay_source *s, struct error *e)
{
	int fd;

	if (s->number == s->options->n)
		return REPLAY_END;
	fd = fcntl(s->options->fds[s->number++], F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	return journal_reader_new(fd, "the journal", &s->reader, e);
}

static void close_reader(struct replay_source *s)
{
	if (s->reader)
		s->damaged_bytes += journal_reader_damaged_bytes(s->reader);
	journal_reader_free(s->reader);
	s->reader = NULL;
}

/* The next frame of all journals. */
static int next_frame(struct replay_source *s, struct journal_frame *ret, struct error *e)
{
	for (;;) {
		int r = s->reader ? 0 : open_next(s, e);

		if (r == 0)
			r = journal_reader_next(s->reader, ret);
		else
			return r;
		if (r != JOURNAL_END)
			return r < 0 ? error_set(e, r, "cannot read the journal: %s", strerror(-r))
				     : 0;
		close_reader(s);
	}
}

int replay_next(struct replay_source *s, struct journal_record *ret, struct error *e)
{
	struct journal_frame frame;
	int r;

	while ((r = next_frame(s, &frame, e)) == 0) {
		if (frame.type != JOURNAL_TICK)
			continue;
		r = journal_decode_tick(frame.payload, frame.payload_bytes, ret);
		if (r != -EPROTO)
			return r;
		s->damaged_bytes += frame.payload_bytes; /* whole, and yet no tick */
	}
	return r;
}

void replay_source_done(struct replay_source *s)
{
	close_reader(s);
}

/* Appends a pair to the policy's section, which is the configuration's only one. */
static int add_pair(struct config_policy *p, const struct policy_setting *setting)
{
	if (!GROW_ARRAY(p->pairs, p->n_pairs + 1))
		return -ENOMEM;
	p->pairs[p->n_pairs] = (struct config_pair){strdup(setting->key), strdup(setting->value)};
	p->n_pairs++; /* also the half-built one: it is freed with the others */
	return p->pairs[p->n_pairs - 1].key && p->pairs[p->n_pairs - 1].value ? 0 : -ENOMEM;
}

static int set_section(
	struct host_config *c, const char *name, const struct policy_setting *settings, size_t n)
{
	struct config_policy *p = calloc(1, sizeof(*p));
	int r = 0;

	if (!p)
		return -ENOMEM;
	c->policies = p;
	c->n_policies = 1;
	p->name = strdup(name);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_pair(p, &settings[i]);
	return p->name ? r : -ENOMEM;
}

/* The recorded policy becomes the configuration's, unless another one is wanted. */
static int take_recorded(struct host_config *c, const struct replay_options *o,
	const struct journal_policy_record *recorded)
{
	struct host_config fresh;
	int r;

	if (o->policy && strcmp(o->policy, recorded->name) != 0)
		return 0;
	r = host_config_init(&fresh);
	if (r < 0)
		return r;
	free(fresh.policy);
	fresh.policy = strdup(recorded->name);
	r = set_section(&fresh, recorded->name, recorded->settings, recorded->n_settings);
	if (r < 0 || !fresh.policy) {
		host_config_done(&fresh);
		return -ENOMEM;
	}
	host_config_done(c);
	*c = fresh;
	return 0;
}

static int find_recorded(struct replay_source *s, struct host_config *c, struct error *e)
{
	struct journal_frame frame;
	int r;

	while ((r = next_frame(s, &frame, e)) == 0) {
		struct journal_policy_record recorded;

		if (frame.type != JOURNAL_POLICY ||
			journal_decode_policy(frame.payload, frame.payload_bytes, &recorded) < 0)
			continue;
		r = take_recorded(c, s->options, &recorded);
		journal_policy_record_done(&recorded);
		if (r < 0)
			return r;
	}
	return r == REPLAY_END ? 0 : r;
}

static int copy_config(const struct replay_options *o, struct host_config *c)
{
	const char *name = o->policy ? o->policy : o->config->policy;
	const struct config_policy *section = host_config_policy(o->config, name);
	struct config_policy *p;
	int r;

	free(c->policy);
	free(c->policy_dir);
	c->policy = strdup(name);
	c->policy_dir = strdup(o->config->policy_dir);
	if (!c->policy || !c->policy_dir)
		return -ENOMEM;
	r = set_section(c, name, NULL, 0);
	p = c->policies;
	for (size_t i = 0; r == 0 && section && i < section->n_pairs; i++)
		r = add_pair(p,
			&(struct policy_setting){section->pairs[i].key, section->pairs[i].value});
	return r;
}

int replay_choose_policy(
	const struct replay_options *options, struct host_config *ret, struct error *e)
{
	struct replay_source source = {.options = options};
	struct host_config c;
	int r;

	r = host_config_init(&c);
	if (r < 0)
		return r;
	if (options->config) {
		r = copy_config(options, &c);
	} else {
		if (options->policy) {
			free(c.policy);
			c.policy = strdup(options->policy);
		}
		r = c.policy ? find_recorded(&source, &c, e) : -ENOMEM;
	}
	replay_source_done(&source);
	if (r < 0) {
		host_config_done(&c);
		return r;
	}
	*ret = c;
	return 0;
}
