/* Files of other controllers, as memctl import reads them. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memd/memctl/import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *out = NULL;
	size_t out_size;
	FILE *f;

	if (!text || size == 0) {
		free(text);
		return 0;
	}
	memcpy(text, data, size);
	text[size] = '\0';
	f = open_memstream(&out, &out_size);
	if (f) {
		import_convert((enum import_kind)(data[0] % IMPORT_KINDS), text, f);
		fclose(f);
	}
	free(out);
	free(text);
	return 0;
}
