/* See view-record.h. */
#include "policy/view-record.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "memd/base/text.h"

/* What precedes the fields in memory is for one process only. */
#define GUEST_FIELDS offsetof(struct memd_guest_view, id)
#define HOST_FIELDS  offsetof(struct memd_host_view, now_us)

static size_t align_up(size_t n)
{
	return (n + VIEW_RECORD_ALIGN - 1) & ~(size_t)(VIEW_RECORD_ALIGN - 1);
}

static size_t name_bytes_of(const struct memd_guest_view *view)
{
	return strnlen(view->name, VIEW_RECORD_NAME_MAX) + 1;
}

static size_t record_bytes(size_t view_bytes, size_t name_bytes)
{
	return align_up(sizeof(struct view_record_header) + view_bytes + name_bytes);
}

size_t view_record_guest_bytes(const struct memd_guest_view *view)
{
	return record_bytes(sizeof(*view) - GUEST_FIELDS, name_bytes_of(view));
}

size_t view_record_host_bytes(void)
{
	return record_bytes(sizeof(struct memd_host_view) - HOST_FIELDS, 0);
}

static size_t put(
	const void *fields, size_t view_bytes, const char *name, size_t name_bytes, uint8_t *at)
{
	struct view_record_header header = {
		.record_bytes = (uint32_t)record_bytes(view_bytes, name_bytes),
		.view_bytes = (uint32_t)view_bytes,
		.name_bytes = (uint32_t)name_bytes,
	};
	size_t used = sizeof(header) + view_bytes + name_bytes;

	memcpy(at, &header, sizeof(header));
	memcpy(at + sizeof(header), fields, view_bytes);
	if (name_bytes) {
		memcpy(at + sizeof(header) + view_bytes, name, name_bytes - 1);
		at[used - 1] = '\0';
	}
	memset(at + used, 0, header.record_bytes - used);
	return header.record_bytes;
}

size_t view_record_put_guest(const struct memd_guest_view *view, uint8_t *at)
{
	return put((const uint8_t *)view + GUEST_FIELDS, sizeof(*view) - GUEST_FIELDS, view->name,
		name_bytes_of(view), at);
}

size_t view_record_put_host(const struct memd_host_view *view, uint8_t *at)
{
	struct memd_host_view copy = *view;

	copy.guests = NULL;
	return put((const uint8_t *)&copy + HOST_FIELDS, sizeof(copy) - HOST_FIELDS, NULL, 0, at);
}

/* Checks the header against the n bytes that are there. */
static bool header_fits(const struct view_record_header *h, size_t n)
{
	uint64_t used = (uint64_t)sizeof(*h) + h->view_bytes + h->name_bytes;

	return h->record_bytes <= n && used <= h->record_bytes &&
	       h->record_bytes % VIEW_RECORD_ALIGN == 0;
}

/* Copies as many fields as both sides know to `fields`, of known_bytes, which are cleared. */
static ssize_t get(const uint8_t *at, size_t n, void *fields, size_t known_bytes,
	struct view_record_header *ret)
{
	if (n < sizeof(*ret))
		return -EPROTO;
	memcpy(ret, at, sizeof(*ret));
	if (!header_fits(ret, n))
		return -EPROTO;
	memcpy(fields, at + sizeof(*ret),
		ret->view_bytes < known_bytes ? ret->view_bytes : known_bytes);
	return ret->record_bytes;
}

ssize_t view_record_get_guest(const uint8_t *at, size_t n, struct memd_guest_view *ret)
{
	struct memd_guest_view view = {.size = sizeof(view)};
	struct view_record_header header;
	const char *name;
	ssize_t r;

	r = get(at, n, (uint8_t *)&view + GUEST_FIELDS, sizeof(view) - GUEST_FIELDS, &header);
	if (r < 0)
		return r;
	name = (const char *)at + sizeof(header) + header.view_bytes;
	if (header.name_bytes < 2 || header.name_bytes > VIEW_RECORD_NAME_MAX + 1 ||
		strnlen(name, header.name_bytes) != header.name_bytes - 1 || !text_is_clean(name))
		return -EPROTO;
	view.name = name;
	*ret = view;
	return r;
}

ssize_t view_record_get_host(const uint8_t *at, size_t n, struct memd_host_view *ret)
{
	struct memd_host_view view = {.size = sizeof(view)};
	struct view_record_header header;
	ssize_t r;

	r = get(at, n, (uint8_t *)&view + HOST_FIELDS, sizeof(view) - HOST_FIELDS, &header);
	if (r < 0)
		return r;
	view.guests = NULL;
	*ret = view;
	return r;
}
