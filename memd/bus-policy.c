/* Methods about decisions: which policies there are, the journal, why a target is what it is. */
#include <stdio.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/text.h"
#include "memd/bus-internal.h"
#include "memd/explain.h"

static int append_policy(
	sd_bus_message *reply, const char *name, const char *kind, const char *description)
{
	return sd_bus_message_append(reply, "(sss)", name, kind, description);
}

/* What lies in the directory of plugins, by name; what it is worth shows when it is loaded. */
static int append_plugins(sd_bus_message *reply, const char *directory)
{
	_cleanup_closedir_ DIR *dir = opendir(directory);
	struct dirent *entry;
	int r = 0;

	while (r >= 0 && dir && (entry = readdir(dir))) {
		size_t n = strlen(entry->d_name), suffix = strlen(".so");
		_cleanup_free_ char *description = NULL;

		if (n <= suffix || strcmp(entry->d_name + n - suffix, ".so") != 0)
			continue;
		if (asprintf(&description, "%s/%s", directory, entry->d_name) < 0) {
			description = NULL;
			return -ENOMEM;
		}
		entry->d_name[n - suffix] = '\0';
		if (text_is_clean(description))
			r = append_policy(reply, entry->d_name, "plugin", description);
	}
	return r;
}

int bus_method_list_policies(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct bus *b = userdata;
	const struct memd_policy *p;
	int r;

	r = sd_bus_message_new_method_return(message, &reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "(sss)");
	for (size_t i = 0; r >= 0 && (p = policy_builtin_at(i)); i++)
		r = append_policy(reply, p->name, "built in", p->description);
	if (r >= 0)
		r = append_policy(reply, POLICY_EXEC, "program",
			"asks a program, in lines of JSON ([Policy exec] Command=)");
	if (r >= 0)
		r = append_plugins(reply, b->manager->config.policy_dir);
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

static int refuse_without_journal(sd_bus_message *message)
{
	struct refusal refusal = {0};

	error_set(&refusal.error, -ENOENT,
		"memd keeps no journal; JournalSize= in [Journal] of memd.conf says how large one "
		"may be, and memd's log why there is none");
	return bus_refuse(message, -ENOENT, &refusal);
}

int bus_method_open_journal(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct bus *b = userdata;
	int fds[2], r;

	if (!b->manager->journal)
		return refuse_without_journal(message);
	r = journal_open_files(b->manager->journal, fds);
	if (r < 0)
		return r;
	r = sd_bus_message_new_method_return(message, &reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "h");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (r >= 0 && fds[i] >= 0)
			r = sd_bus_message_append(reply, "h", fds[i]); /* duplicates it */
		cleanup_closep(&fds[i]);
	}
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

/* The sentences about a guest of that name in the last tick; NULL without memory. */
static char *explain(const struct manager *m, const char *name, const struct journal_record *record)
{
	const struct journal_record_guest *g = journal_record_find(record, name);
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	if (g)
		explain_guest(out, record, g, m->figures.policy_chosen, clock_realtime_us());
	else
		fprintf(out,
			"Nothing was decided about %s yet: it is younger than the last tick.\n",
			name);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

static int append_lines(sd_bus_message *reply, char *text)
{
	int r = sd_bus_message_open_container(reply, 'a', "s");
	char *line, *rest = text;

	while (r >= 0 && (line = strsep(&rest, "\n")) && rest)
		r = sd_bus_message_append(reply, "s", line);
	return r < 0 ? r : sd_bus_message_close_container(reply);
}

int bus_explain(sd_bus_message *message, const struct manager *m, const struct guest *g)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	_cleanup_free_ char *text = NULL;
	struct journal_record record = {0};
	int r;

	if (m->last_frame) {
		const struct journal_frame_header *header = (const void *)m->last_frame;

		r = journal_decode_tick(
			m->last_frame + sizeof(*header), header->payload_bytes, &record);
		if (r < 0)
			return r;
	}
	text = explain(m, g->name, &record);
	journal_record_done(&record);
	if (!text)
		return -ENOMEM;
	r = sd_bus_message_new_method_return(message, &reply);
	if (r >= 0)
		r = append_lines(reply, text);
	return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}
