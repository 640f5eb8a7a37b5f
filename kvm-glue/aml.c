/* AML writer (aml.h). Lengths are always written as four bytes (ACPI 6.4, 20.2.4): simple, and nothing moves. */
#include "kvm-glue/aml.h"

#include <string.h>

enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_EXTENDED = 0x5b,
	OP_EXTENDED_DEVICE = 0x82,

	LENGTH_BYTES = 4,
	RESOURCE_END = 0x79, /* and a checksum of 0: not checked */
};

void aml_bytes(struct aml *a, const void *data, size_t n)
{
	if (n > a->size - a->used) {
		a->full = true;
		return;
	}
	memcpy(a->bytes + a->used, data, n);
	a->used += n;
}

static void put8(struct aml *a, uint8_t byte)
{
	aml_bytes(a, &byte, 1);
}

void aml_integer(struct aml *a, uint64_t value)
{
	if (value == 0) {
		put8(a, OP_ZERO);
	} else if (value == 1) {
		put8(a, OP_ONE);
	} else if (value <= UINT8_MAX) {
		put8(a, OP_BYTE);
		aml_bytes(a, &value, 1);
	} else if (value <= UINT16_MAX) {
		put8(a, OP_WORD);
		aml_bytes(a, &value, 2);
	} else if (value <= UINT32_MAX) {
		put8(a, OP_DWORD);
		aml_bytes(a, &value, 4);
	} else {
		put8(a, OP_QWORD);
		aml_bytes(a, &value, 8);
	}
}

static unsigned hex_digit(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'A' + 10);
}

void aml_eisa_id(struct aml *a, const char *id)
{
	uint8_t packed[5] = {
		OP_DWORD,
		(uint8_t)((id[0] - '@') << 2 | (id[1] - '@') >> 3),
		(uint8_t)((id[1] - '@') << 5 | (id[2] - '@')),
		(uint8_t)(hex_digit(id[3]) << 4 | hex_digit(id[4])),
		(uint8_t)(hex_digit(id[5]) << 4 | hex_digit(id[6])),
	};

	aml_bytes(a, packed, sizeof(packed));
}

void aml_name(struct aml *a, const char *name)
{
	put8(a, OP_NAME);
	aml_bytes(a, name, strlen(name));
}

/* Leaves room for the length; aml_close fills it in. */
static aml_package open_package(struct aml *a)
{
	static const uint8_t room[LENGTH_BYTES];
	aml_package p = a->used;

	aml_bytes(a, room, sizeof(room));
	return p;
}

aml_package aml_scope(struct aml *a, const char *path)
{
	aml_package p;

	put8(a, OP_SCOPE);
	p = open_package(a);
	aml_bytes(a, path, strlen(path));
	return p;
}

aml_package aml_device(struct aml *a, const char *name)
{
	aml_package p;

	put8(a, OP_EXTENDED);
	put8(a, OP_EXTENDED_DEVICE);
	p = open_package(a);
	aml_bytes(a, name, strlen(name));
	return p;
}

aml_package aml_package_open(struct aml *a, uint8_t n)
{
	aml_package p;

	put8(a, OP_PACKAGE);
	p = open_package(a);
	put8(a, n);
	return p;
}

void aml_close(struct aml *a, aml_package p)
{
	size_t n = a->used - p; /* counts itself */

	if (a->full)
		return;
	a->bytes[p] = (uint8_t)((LENGTH_BYTES - 1) << 6 | (n & 0x0f));
	a->bytes[p + 1] = (uint8_t)(n >> 4);
	a->bytes[p + 2] = (uint8_t)(n >> 12);
	a->bytes[p + 3] = (uint8_t)(n >> 20);
}

void aml_resources(struct aml *a, const void *descriptors, size_t n)
{
	static const uint8_t end[2] = {RESOURCE_END, 0};
	aml_package p;

	put8(a, OP_BUFFER);
	p = open_package(a);
	aml_integer(a, n + sizeof(end));
	aml_bytes(a, descriptors, n);
	aml_bytes(a, end, sizeof(end));
	aml_close(a, p);
}
