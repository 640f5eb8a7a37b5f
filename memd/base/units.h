/*
 * Units: bytes, pages, basis points, guest physical addresses; parsing and printing of sizes.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "memd/base/error.h"

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define PAGE_SHIFT_4K 12
#define PAGE_BYTES    (UINT64_C(1) << PAGE_SHIFT_4K)
#define CHUNK_SHIFT   21                          /* 2 MiB: huge page, lock and rating granule */
#define CHUNK_BYTES   (UINT64_C(1) << CHUNK_SHIFT)
#define CHUNK_PAGES   (CHUNK_BYTES / PAGE_BYTES)

/*
 * A guest physical address: a struct, so that it is never mixed up with a pointer or a page number.
 */
typedef struct {
	uint64_t v;
} gpa_t;
#define GPA(x) ((gpa_t){(uint64_t)(x)})

/*
 * Parses "512M", "1.5G", "4096", "64K", suffixes K M G T (powers of 1024, also KiB/MiB/..., case
 * matters not), one blank before the suffix allowed. -EINVAL (no number, trailing text), -ERANGE
 * (overflows 64 bits). Out-parameter untouched on failure; *e names the text and what is allowed.
 */
int units_parse_bytes(const char *text, uint64_t *ret_bytes, struct error *e);

/*
 * As units_parse_bytes, and also "25%" (0..100, two decimals allowed), which is taken of
 * whole_bytes.
 */
int units_parse_bytes_or_percent(const char *text, uint64_t whole_bytes, uint64_t *ret_bytes,
	struct error *e);

/*
 * Parses a time: "500ms", "2s", "1min", "1h", "250us"; a bare number is seconds. -EINVAL, -ERANGE.
 */
int units_parse_time(const char *text, uint64_t *ret_us, struct error *e);

/* "70%" -> 7000 basis points (0..10000). -EINVAL, -ERANGE. */
int units_parse_percent(const char *text, uint32_t *ret_bp, struct error *e);

/* Digits only, no sign, no leading blank; at most max. -EINVAL, -ERANGE. */
int units_parse_u64(const char *text, uint64_t max, uint64_t *ret, struct error *e);

/*
 * "1.5 GiB", "512 MiB", "0 B": at most one decimal. Writes at most size bytes and returns buffer.
 */
char *units_format_bytes(uint64_t bytes, char *buffer, size_t size);
#define UNITS_BYTES(b) units_format_bytes((b), (char[24]){0}, 24)
