/* CRC-32 as of IEEE 802.3 (reflected, polynomial 0xedb88320): finds what a disk or a crash broke. */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint32_t crc32_of(const void *bytes, size_t n);
