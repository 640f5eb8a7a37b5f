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

static int copy_sections(const struct config_section *from, size_t n_from,
	struct config_section **to, size_t *n_to)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n_from; i++)
		for (size_t j = 0; r == 0 && j < from[i].n_pairs; j++)
			r = config_section_add(to, n_to, from[i].name, from[i].pairs[j].key,
				from[i].pairs[j].value);
	return r;
}

/* What was recorded last: of the policy, and of groups with one of their own. */
static int take_settings(struct host_config *c, const struct host_config *before,
	const struct journal_policy_record *recorded)
{
	int r = 0;

	if (strcmp(c->policy, recorded->name) != 0)
		r = copy_sections(
			before->policies, before->n_policies, &c->policies, &c->n_policies);
	else
		for (size_t i = 0; r == 0 && i < recorded->n_settings; i++)
			r = config_section_add(&c->policies, &c->n_policies, recorded->name,
				recorded->settings[i].key, recorded->settings[i].value);
	for (size_t i = 0; r == 0 && i < recorded->n_group_settings; i++) {
		const struct journal_group_setting *s = &recorded->group_settings[i];

		r = config_section_add(&c->groups, &c->n_groups, s->group, s->key, s->value);
	}
	for (size_t i = 0; r == 0 && i < c->n_groups; i++)
		if (!config_group_policy(&c->groups[i]))
			r = -EPROTO;
	return r;
}

/* The recorded policy becomes the configuration's, unless another one is wanted. */
static int take_recorded(struct host_config *c, const struct replay_options *o,
	const struct journal_policy_record *recorded)
{
	struct host_config fresh;
	int r;

	r = host_config_init(&fresh);
	if (r < 0)
		return r;
	free(fresh.policy);
	fresh.policy = strdup(o->policy ? o->policy : recorded->name);
	r = fresh.policy ? take_settings(&fresh, c, recorded) : -ENOMEM;
	if (r < 0) {
		host_config_done(&fresh);
		return r;
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
	const struct host_config *from = o->config;
	int r;

	free(c->policy);
	free(c->policy_dir);
	c->policy = strdup(o->policy ? o->policy : from->policy);
	c->policy_dir = strdup(from->policy_dir);
	if (!c->policy || !c->policy_dir)
		return -ENOMEM;
	r = copy_sections(from->policies, from->n_policies, &c->policies, &c->n_policies);
	return r < 0 ? r
		     : copy_sections(from->groups, from->n_groups, &c->groups, &c->n_groups);
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
