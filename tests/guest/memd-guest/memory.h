/*
 * The guest's RAM: tables that last are cut from its beginning, what is left is numbered as pages.
 * All of it is mapped one to one, for both rings, in 2 MiB pages.
 */
#pragma once

#include "tests/guest/memd-guest/arch.h"
#include "tests/guest/memd-guest/start-info.h"

/*
 * Ring 0. Reads the memory map and maps what lies above 4 GiB. false: no map, or one without usable
 * RAM.
 */
bool memory_init(const struct start_info *info);
/* Maps device registers (anywhere below 512 GiB). Ring 0, after memory_init. */
void memory_map_device(uint64_t gpa, uint64_t bytes);

/* Bytes that the memory map calls RAM. */
uint64_t memory_ram_bytes(void);

/*
 * Page aligned, not cleared, for good; stops the guest when there is not enough. Ring 3, before
 * memory_n_pages is used.
 */
void *memory_alloc(uint64_t bytes);
/* The rest of a 2 MiB chunk that memory_alloc began stays unused, so that page 0 begins a chunk. */
void memory_align_to_chunk(void);

uint64_t memory_n_pages(void);
/* Where page i (less than memory_n_pages) is. */
uint64_t *memory_page(uint64_t i);
