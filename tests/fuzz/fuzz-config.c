/*
 * Configuration files of any bytes: host and guest schema over the same text. What is accepted must
 * keep the schema's promises, what is refused must say why.
 */
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/ini-file.h"

/* Settings as they come over the bus, from the entries of the file. */
static void set_each(const struct ini_file *file)
{
	struct guest_config g;
	struct error e = {0};

	if (guest_config_init(&g) < 0)
		return;
	for (size_t i = 0; i < file->n_entries; i++) {
		e.text[0] = '\0';
		if (guest_config_set(&g, file->entries[i].key, file->entries[i].value, &e) < 0 &&
			!e.text[0])
			abort();
	}
	if (g.n_vcpus < 1 || g.n_vcpus > CONFIG_VCPUS_MAX || g.shares < 1)
		abort();
	if (guest_config_check(&g, NULL) == 0 &&
		(guest_config_min_bytes(&g) > guest_config_max_bytes(&g) || !g.kernel))
		abort();
	guest_config_done(&g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ini_file file = {0};
	struct error e = {0};
	int r;

	r = ini_file_parse("fuzz", (const char *)data, size, &file, &e);
	if (r < 0 && r != -ENOMEM && !e.text[0])
		abort();
	if (r == 0)
		set_each(&file);
	ini_file_done(&file);
	return 0;
}
