/*
 * Views as bytes: what memd hands to memd-policy, and what the decision journal keeps. A record
 * holds the fields of the struct of memd/policy.h as they lie in memory (x86-64, little endian),
 * without its size and its pointers, after a header that says how many there are. Structs of the
 * ABI only grow at the end, so old records are read by new programs (absent fields are 0) and new
 * ones by old programs (fields that they do not know are skipped).
 *
 * Readers take the bytes for hostile: every size is checked, names are text and end.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "memd/policy.h"

#define VIEW_RECORD_ALIGN    8
#define VIEW_RECORD_NAME_MAX 255 /* without the NUL */

struct view_record_header {
	uint32_t record_bytes; /* all of it, with the padding to VIEW_RECORD_ALIGN */
	uint32_t view_bytes; /* of fields, after this header */
	uint32_t name_bytes; /* after the fields, with the NUL; 0 for the host */
	uint32_t reserved; /* 0 */
};

/* Room for one record; a name beyond VIEW_RECORD_NAME_MAX is cut. */
size_t view_record_guest_bytes(const struct memd_guest_view *view);
size_t view_record_host_bytes(void);
/* Writes it, and returns the bytes written: what the functions above say. */
size_t view_record_put_guest(const struct memd_guest_view *view, uint8_t *at);
size_t view_record_put_host(const struct memd_host_view *view, uint8_t *at);

/*
 * Reads the record at `at`, of which at most n bytes are there. Returns its bytes, or -EPROTO.
 * ret->name points into the record; of the host, `guests` is NULL.
 */
ssize_t view_record_get_guest(const uint8_t *at, size_t n, struct memd_guest_view *ret);
ssize_t view_record_get_host(const uint8_t *at, size_t n, struct memd_host_view *ret);
