/*
 * What a PVH loader hands over (xen/include/public/arch-x86/hvm/start_info.h). Ring 0 reads it
 * once.
 */
#pragma once

#include <stdint.h>

#define START_INFO_MAGIC UINT32_C(0x336ec578)

struct start_info {
	uint32_t magic;
	uint32_t version; /* 1 and later: with a memory map */
	uint32_t flags;
	uint32_t n_modules;
	uint64_t modules;
	uint64_t cmdline;
	uint64_t rsdp;
	uint64_t memory_map;
	uint32_t n_memory_map;
	uint32_t reserved;
};

#define MEMORY_MAP_RAM 1

struct memory_map_entry {
	uint64_t address;
	uint64_t bytes;
	uint32_t type;
	uint32_t reserved;
};
