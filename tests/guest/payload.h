/* Tiny guests of a few bytes of 32-bit code, for tests of the machine rather than of a workload. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define PAYLOAD_GPA UINT32_C(0x100000) /* where the code lies and begins */

/* Writes an ELF kernel with a PVH entry around the code. An errno of creating the file. */
int payload_write(const char *path, const uint8_t *code, size_t bytes);
