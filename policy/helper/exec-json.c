/*
 * The lines of the policy `exec`. Out go all figures of the views under the names that
 * memd/policy.h gives them; in come proposals, from a program that may say anything.
 */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/cleanup.h"
#include "policy/helper/helper.h"
#include "policy/policy-host.h"

/* An answer is an object with an array of objects in it. */
#define DEPTH_MAX 8

struct field {
	const char *name;
	size_t offset;
	size_t bytes;
};

#define GUEST(member)                                                                              \
	{                                                                                          \
#member, offsetof(struct memd_guest_view, member),                                 \
			sizeof(((struct memd_guest_view *)0)->member)                              \
	}
#define HOST(member)                                                                               \
	{                                                                                          \
#member, offsetof(struct memd_host_view, member),                                  \
			sizeof(((struct memd_host_view *)0)->member)                               \
	}

static const struct field guest_fields[] = {
	GUEST(id),
	GUEST(flags),
	GUEST(shares),
	GUEST(configured_bytes),
	GUEST(min_bytes),
	GUEST(max_bytes),
	GUEST(target_bytes),
	GUEST(resident_bytes),
	GUEST(swapped_bytes),
	GUEST(saved_sharing_bytes),
	GUEST(hole_bytes),
	GUEST(balloon_bytes),
	GUEST(refault_bytes),
	GUEST(claimed_available_bytes),
	GUEST(working_set_bytes),
	GUEST(working_set_slow_bytes),
	GUEST(working_set_fast_bytes),
	GUEST(working_set_error_bytes),
	GUEST(stall_some_10_bp),
	GUEST(stall_some_60_bp),
	GUEST(stall_full_10_bp),
	GUEST(stall_full_60_bp),
	GUEST(critical_bytes),
	GUEST(claimed_floor_bytes),
};
_Static_assert(sizeof(struct memd_guest_view) ==
		       offsetof(struct memd_guest_view, claimed_floor_bytes) + sizeof(uint64_t),
	"the view has grown: say the new field to programs too, in guest_fields");

static const struct field host_fields[] = {
	HOST(now_us),
	HOST(tick_us),
	HOST(budget_bytes),
	HOST(used_bytes),
	HOST(pool_bytes),
	HOST(swap_occupied_bytes),
	HOST(overhead_bytes),
};
_Static_assert(
	sizeof(struct memd_host_view) == offsetof(struct memd_host_view, guests) + sizeof(void *),
	"the view has grown: say the new field to programs too, in host_fields");

static void print_fields(FILE *out, const struct field *fields, size_t n, const void *view)
{
	for (size_t i = 0; i < n; i++) {
		const void *at = (const char *)view + fields[i].offset;
		uint64_t value;

		if (fields[i].bytes == sizeof(uint64_t))
			value = *(const uint64_t *)at;
		else
			value = *(const uint32_t *)at;
		fprintf(out, ",\"%s\":%" PRIu64, fields[i].name, value);
	}
}

/* Names are of guests, which have no quotes; what is no such name goes without it. */
static void print_name(FILE *out, const char *name)
{
	if (!strpbrk(name, "\"\\"))
		fputs(name, out);
}

char *exec_format_view(const struct memd_host_view *view)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	fprintf(out, "{\"host\":{\"state\":\"%s\"",
		view->state <= MEMD_HOST_LOW ? host_state_name(view->state) : "");
	print_fields(out, host_fields, ARRAY_SIZE(host_fields), view);
	fputs("},\"guests\":[", out);
	for (uint32_t i = 0; i < view->n_guests; i++) {
		const struct memd_guest_view *g = view->guests[i];

		fprintf(out, "%s{\"name\":\"", i ? "," : "");
		print_name(out, g->name);
		fputc('"', out);
		print_fields(out, guest_fields, ARRAY_SIZE(guest_fields), g);
		fputc('}', out);
	}
	fputs("]}\n", out);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

static void json_putp(struct json_object **object)
{
	json_object_put(*object);
}

/* A whole number of at least 0 under the key. */
static bool get_number(struct json_object *object, const char *key, uint64_t *ret)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value) ||
		!json_object_is_type(value, json_type_int))
		return false;
	*ret = json_object_get_uint64(value);
	return *ret != 0 || json_object_get_int64(value) == 0;
}

/* Where the guest of that id is: they ascend. */
static bool find_guest(const struct memd_host_view *view, uint64_t id, uint32_t *ret)
{
	uint32_t from = 0, to = view->n_guests;

	while (from < to) {
		uint32_t middle = from + (to - from) / 2;

		if (view->guests[middle]->id < id)
			from = middle + 1;
		else
			to = middle;
	}
	*ret = from;
	return from < view->n_guests && view->guests[from]->id == id;
}

static int take_proposal(struct json_object *object, const struct memd_host_view *view,
	struct memd_proposal *const *proposals, struct error *e)
{
	struct json_object *reason;
	uint64_t id, target_bytes;
	uint32_t i;

	if (!json_object_is_type(object, json_type_object) || !get_number(object, "id", &id) ||
		!get_number(object, "target_bytes", &target_bytes))
		return error_set(e, -EPROTO,
			"a proposal is to have \"id\" and \"target_bytes\", whole numbers");
	if (!find_guest(view, id, &i))
		return error_set(
			e, -EPROTO, "a proposal is for guest %" PRIu64 ", which is not", id);
	proposals[i]->target_bytes = target_bytes;
	if (json_object_object_get_ex(object, "reason", &reason) &&
		json_object_is_type(reason, json_type_string))
		snprintf(proposals[i]->reason, MEMD_REASON_MAX, "%s",
			json_object_get_string(reason));
	return 0;
}

static struct json_object *parse(const char *text, size_t n)
{
	struct json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
	struct json_object *object;

	if (!tokener || n > INT32_MAX) {
		if (tokener)
			json_tokener_free(tokener);
		return NULL;
	}
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	object = json_tokener_parse_ex(tokener, text, (int)n);
	if (json_tokener_get_error(tokener) != json_tokener_success) {
		json_object_put(object);
		object = NULL;
	}
	json_tokener_free(tokener);
	return object;
}

int exec_parse_answer(const char *text, size_t n, const struct memd_host_view *view,
	struct memd_proposal *const *proposals, struct error *e)
{
	_cleanup_(json_putp) struct json_object *answer = parse(text, n);
	struct json_object *list;
	int r = 0;

	if (!json_object_is_type(answer, json_type_object) ||
		!json_object_object_get_ex(answer, "proposals", &list) ||
		!json_object_is_type(list, json_type_array))
		return error_set(e, -EPROTO,
			"the answer is no line of JSON with an array \"proposals\": %.60s", text);
	for (size_t i = 0; r == 0 && i < json_object_array_length(list); i++)
		r = take_proposal(json_object_array_get_idx(list, i), view, proposals, e);
	return r;
}

char *exec_format_hello(const struct exec_setting *settings, size_t n)
{
	_cleanup_(json_putp) struct json_object *hello = json_object_new_object();
	struct json_object *object = json_object_new_object();
	char *text;

	json_object_object_add(hello, "memd_policy", json_object_new_int(MEMD_POLICY_API_VERSION));
	for (size_t i = 0; i < n; i++)
		json_object_object_add(
			object, settings[i].key, json_object_new_string(settings[i].value));
	json_object_object_add(hello, "settings", object);
	if (asprintf(&text, "%s\n", json_object_to_json_string_ext(hello, JSON_C_TO_STRING_PLAIN)) <
		0)
		return NULL;
	return text;
}

int exec_parse_hello(const char *text, size_t n, struct error *e)
{
	_cleanup_(json_putp) struct json_object *answer = parse(text, n);
	struct json_object *value;

	if (json_object_is_type(answer, json_type_object) &&
		json_object_object_get_ex(answer, "error", &value) &&
		json_object_is_type(value, json_type_string))
		return error_set(e, -EINVAL, "%s",
			*json_object_get_string(value) ? json_object_get_string(value)
						       : "it does not say why");
	if (json_object_is_type(answer, json_type_object) &&
		json_object_object_get_ex(answer, "ready", &value) &&
		json_object_get_boolean(value))
		return 0;
	return error_set(e, -EPROTO,
		"the program did not answer {\"ready\":true} or {\"error\":\"...\"}: %.60s", text);
}
