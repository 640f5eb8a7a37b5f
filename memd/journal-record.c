/* See journal-record.h. */
#include "memd/journal-record.h"

#include <stdbool.h>
#include <string.h>

#include "memd/base/crc32.h"
#include "memd/base/overflow.h"
#include "memd/base/text.h"
#include "policy/view-record.h"

#define SETTINGS_MAX 1024

void journal_record_done(struct journal_record *r)
{
	free(r->guests);
	*r = (struct journal_record){0};
}

const struct journal_record_guest *journal_record_find(
	const struct journal_record *r, const char *name)
{
	for (uint32_t i = 0; i < r->tick.n_guests; i++)
		if (strcmp(r->guests[i].view.name, name) == 0)
			return &r->guests[i];
	return NULL;
}

/* Writing: sizes are known before, so that nothing has to be checked on the way. */

struct writer {
	uint8_t *bytes;
	size_t used;
};

static void put(struct writer *w, const void *bytes, size_t n)
{
	memcpy(w->bytes + w->used, bytes, n);
	w->used += n;
}

static void put_padding(struct writer *w)
{
	size_t n = u64_align_up(w->used, JOURNAL_ALIGN) - w->used;

	memset(w->bytes + w->used, 0, n);
	w->used += n;
}

static size_t text_bytes(const char *text)
{
	return strlen(text) + 1;
}

/* Room for a frame of so many payload bytes, its header to be written last. */
static int begin_frame(size_t payload_bytes, struct writer *ret)
{
	if (payload_bytes > JOURNAL_FRAME_BYTES_MAX)
		return -E2BIG;
	ret->bytes = malloc(
		u64_align_up(sizeof(struct journal_frame_header) + payload_bytes, JOURNAL_ALIGN));
	ret->used = sizeof(struct journal_frame_header);
	return ret->bytes ? 0 : -ENOMEM;
}

static void end_frame(struct writer *w, enum journal_frame_type type, uint8_t **ret, size_t *ret_n)
{
	struct journal_frame_header header = {
		.magic = JOURNAL_FRAME_MAGIC,
		.type = type,
		.payload_bytes = (uint32_t)(w->used - sizeof(header)),
	};

	header.checksum = crc32_of(w->bytes + sizeof(header), header.payload_bytes);
	memcpy(w->bytes, &header, sizeof(header));
	put_padding(w);
	*ret = w->bytes;
	*ret_n = w->used;
}

static size_t guest_bytes(const struct journal_record_guest *g)
{
	return u64_align_up(sizeof(g->figures) + text_bytes(g->reason), JOURNAL_ALIGN) +
	       view_record_guest_bytes(&g->view);
}

static void put_guest(struct writer *w, const struct journal_record_guest *g)
{
	struct journal_guest figures = g->figures;

	figures.guest_bytes = sizeof(figures);
	figures.reason_bytes = (uint32_t)text_bytes(g->reason);
	put(w, &figures, sizeof(figures));
	put(w, g->reason, figures.reason_bytes);
	put_padding(w);
	w->used += view_record_put_guest(&g->view, w->bytes + w->used);
}

int journal_encode_tick(const struct journal_record *r, uint8_t **ret, size_t *ret_bytes)
{
	struct journal_tick tick = r->tick;
	struct writer w;
	size_t n;
	int e;

	tick.tick_bytes = sizeof(tick);
	tick.policy_bytes = (uint32_t)text_bytes(r->policy);
	n = u64_align_up(sizeof(tick) + tick.policy_bytes, JOURNAL_ALIGN) +
	    view_record_host_bytes();
	for (uint32_t i = 0; i < tick.n_guests; i++)
		n += guest_bytes(&r->guests[i]);
	e = begin_frame(n, &w);
	if (e < 0)
		return e;
	put(&w, &tick, sizeof(tick));
	put(&w, r->policy, tick.policy_bytes);
	put_padding(&w);
	w.used += view_record_put_host(&r->host, w.bytes + w.used);
	for (uint32_t i = 0; i < tick.n_guests; i++)
		put_guest(&w, &r->guests[i]);
	end_frame(&w, JOURNAL_TICK, ret, ret_bytes);
	return 0;
}

void journal_policy_record_done(struct journal_policy_record *r)
{
	free(r->settings);
	free(r->group_settings);
	*r = (struct journal_policy_record){0};
}

static size_t settings_bytes(const struct journal_policy_record *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n_settings; i++)
		n += text_bytes(r->settings[i].key) + text_bytes(r->settings[i].value);
	for (size_t i = 0; i < r->n_group_settings; i++) {
		const struct journal_group_setting *s = &r->group_settings[i];

		n += text_bytes(s->group) + text_bytes(s->key) + text_bytes(s->value);
	}
	return n;
}

static void put_text(struct writer *w, const char *text)
{
	put(w, text, text_bytes(text));
}

int journal_encode_policy(const struct journal_policy_record *r, uint8_t **ret, size_t *ret_bytes)
{
	struct journal_policy policy = {
		.policy_bytes = sizeof(policy),
		.n_settings = (uint32_t)r->n_settings,
		.realtime_us = r->realtime_us,
		.text_bytes = text_bytes(r->name) + settings_bytes(r),
		.n_group_settings = (uint32_t)r->n_group_settings,
	};
	struct writer w;
	int e;

	e = begin_frame(sizeof(policy) + policy.text_bytes, &w);
	if (e < 0)
		return e;
	put(&w, &policy, sizeof(policy));
	put_text(&w, r->name);
	for (size_t i = 0; i < r->n_settings; i++) {
		put_text(&w, r->settings[i].key);
		put_text(&w, r->settings[i].value);
	}
	for (size_t i = 0; i < r->n_group_settings; i++) {
		put_text(&w, r->group_settings[i].group);
		put_text(&w, r->group_settings[i].key);
		put_text(&w, r->group_settings[i].value);
	}
	end_frame(&w, JOURNAL_POLICY, ret, ret_bytes);
	return 0;
}

/* Reading: what is not there is -EPROTO. */

struct reader {
	const uint8_t *at;
	size_t left;
};

static int skip(struct reader *r, size_t n)
{
	if (n > r->left)
		return -EPROTO;
	r->at += n;
	r->left -= n;
	return 0;
}

/*
 * A struct that begins with its size: as much of it as both sides know, the rest 0. Passes it.
 */
static int get_sized(struct reader *r, void *ret, size_t known_bytes)
{
	uint32_t bytes;

	if (r->left < sizeof(bytes))
		return -EPROTO;
	memcpy(&bytes, r->at, sizeof(bytes));
	if (bytes < sizeof(bytes) || bytes > r->left)
		return -EPROTO;
	memset(ret, 0, known_bytes);
	memcpy(ret, r->at, bytes < known_bytes ? bytes : known_bytes);
	return skip(r, bytes);
}

/* A clean text of so many bytes with its NUL, which is its only one. */
static int get_text(struct reader *r, size_t bytes, const char **ret)
{
	const char *text = (const char *)r->at;

	if (bytes == 0 || bytes > r->left || strnlen(text, bytes) != bytes - 1 ||
		!text_is_clean(text))
		return -EPROTO;
	*ret = text;
	return skip(r, bytes);
}

/* To the next multiple of JOURNAL_ALIGN from where the payload began. */
static int skip_padding(struct reader *r, const uint8_t *begin)
{
	size_t at = (size_t)(r->at - begin);

	return skip(r, u64_align_up(at, JOURNAL_ALIGN) - at);
}

static bool is_clean_field(const char *text, size_t bytes)
{
	return strnlen(text, bytes) < bytes && text_is_clean(text);
}

static int get_guest(struct reader *r, const uint8_t *begin, struct journal_record_guest *ret)
{
	ssize_t n;
	int e;

	e = get_sized(r, &ret->figures, sizeof(ret->figures));
	if (e == 0 && !is_clean_field(ret->figures.group, sizeof(ret->figures.group)))
		e = -EPROTO;
	if (e == 0)
		e = get_text(r, ret->figures.reason_bytes, &ret->reason);
	if (e == 0)
		e = skip_padding(r, begin);
	if (e < 0)
		return e;
	n = view_record_get_guest(r->at, r->left, &ret->view);
	return n < 0 ? (int)n : skip(r, (size_t)n);
}

static int get_head(struct reader *r, const uint8_t *begin, struct journal_record *ret)
{
	ssize_t n;
	int e;

	e = get_sized(r, &ret->tick, sizeof(ret->tick));
	if (e == 0)
		e = get_text(r, ret->tick.policy_bytes, &ret->policy);
	if (e == 0)
		e = skip_padding(r, begin);
	if (e < 0)
		return e;
	n = view_record_get_host(r->at, r->left, &ret->host);
	return n < 0 ? (int)n : skip(r, (size_t)n);
}

int journal_decode_tick(const uint8_t *payload, size_t n, struct journal_record *ret)
{
	struct reader r = {payload, n};
	struct journal_record record = {0};
	int e = get_head(&r, payload, &record);

	/* each guest takes more than a header: a count beyond that is a lie, and no allocation */
	if (e == 0 && record.tick.n_guests > r.left / sizeof(struct view_record_header))
		e = -EPROTO;
	if (e < 0)
		return e;
	record.guests = calloc((size_t)record.tick.n_guests + 1, sizeof(*record.guests));
	if (!record.guests)
		return -ENOMEM;
	for (uint32_t i = 0; e == 0 && i < record.tick.n_guests; i++)
		e = get_guest(&r, payload, &record.guests[i]);
	/* Policies are shown guests in this order, and decisions are found by it. */
	for (uint32_t i = 1; e == 0 && i < record.tick.n_guests; i++)
		if (record.guests[i].view.id <= record.guests[i - 1].view.id)
			e = -EPROTO;
	if (e < 0) {
		journal_record_done(&record);
		return e;
	}
	*ret = record;
	return 0;
}

/* The next of the texts that follow each other. */
static int get_next_text(struct reader *r, const char **ret)
{
	size_t n = strnlen((const char *)r->at, r->left);

	return n < r->left ? get_text(r, n + 1, ret) : -EPROTO;
}

int journal_decode_policy(const uint8_t *payload, size_t n, struct journal_policy_record *ret)
{
	struct reader r = {payload, n};
	struct journal_policy_record record = {0};
	struct journal_policy policy;
	int e = get_sized(&r, &policy, sizeof(policy));

	if (e == 0)
		e = get_next_text(&r, &record.name);
	if (e == 0 && (policy.n_settings > SETTINGS_MAX || policy.n_group_settings > SETTINGS_MAX))
		e = -EPROTO;
	if (e < 0)
		return e;
	record.realtime_us = policy.realtime_us;
	record.n_settings = policy.n_settings;
	record.n_group_settings = policy.n_group_settings;
	record.settings = calloc(record.n_settings + 1, sizeof(*record.settings));
	record.group_settings =
		calloc(record.n_group_settings + 1, sizeof(*record.group_settings));
	if (!record.settings || !record.group_settings)
		e = -ENOMEM;
	for (size_t i = 0; e == 0 && i < record.n_settings; i++) {
		e = get_next_text(&r, &record.settings[i].key);
		if (e == 0)
			e = get_next_text(&r, &record.settings[i].value);
	}
	for (size_t i = 0; e == 0 && i < record.n_group_settings; i++) {
		struct journal_group_setting *s = &record.group_settings[i];

		e = get_next_text(&r, &s->group);
		if (e == 0)
			e = get_next_text(&r, &s->key);
		if (e == 0)
			e = get_next_text(&r, &s->value);
	}
	if (e < 0) {
		journal_policy_record_done(&record);
		return e;
	}
	*ret = record;
	return 0;
}
