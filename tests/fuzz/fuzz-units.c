/*
 * Sizes, times and percentages that come from files and the bus. Whatever is accepted must print
 * and parse again.
 */
#include <stdlib.h>
#include <string.h>

#include "memd/base/cleanup.h"
#include "memd/base/units.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = strndup((const char *)data, size);
	struct error e = {0};
	uint64_t v, again;
	uint32_t bp;

	if (!text)
		return 0;
	if (units_parse_bytes(text, &v, &e) == 0 && v < GIB << 10 &&
		units_parse_bytes(UNITS_BYTES(v), &again, &e) < 0)
		abort();
	if (units_parse_percent(text, &bp, NULL) == 0 && bp > 10000)
		abort();
	if (units_parse_bytes_or_percent(text, 1000, &v, NULL) == 0 && strchr(text, '%') &&
		v > 1000)
		abort();
	units_parse_time(text, &v, NULL);
	if (units_parse_u64(text, 1024, &v, NULL) == 0 && v > 1024)
		abort();
	return 0;
}
