/*
 * A small writer of AML, the byte code of ACPI tables (ACPI 6.4, 20): as much as the DSDT of this machine needs. Packages
 * (things with a length) are opened and closed in pairs; names are four characters, already padded with `_`.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
	uint8_t *bytes;
	size_t size;
	size_t used;
	bool full; /* something did not fit: the result is not to be used */
};

/* Position of an open package's length. */
typedef size_t aml_package;

void aml_bytes(struct aml *a, const void *data, size_t n);
/* The shortest encoding of an integer. */
void aml_integer(struct aml *a, uint64_t value);
/* A compressed EISA id such as "PNP0A03". */
void aml_eisa_id(struct aml *a, const char *id);
/* Name (NAME, ...): the object follows. */
void aml_name(struct aml *a, const char *name);
/* Scope (PATH) { ...; path as in AML ("\\_SB_"). */
aml_package aml_scope(struct aml *a, const char *path);
/* Device (NAME) { ... */
aml_package aml_device(struct aml *a, const char *name);
/* Package (n) { ...: n elements follow */
aml_package aml_package_open(struct aml *a, uint8_t n);
/* Ends scope, device or package. */
void aml_close(struct aml *a, aml_package p);
/* Buffer with these bytes: resource descriptors, with the end tag appended. */
void aml_resources(struct aml *a, const void *descriptors, size_t n);
