/* /proc/PID/maps: the kernel's lines, with names that others chose. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "memd/base/units.h"
#include "memd/qemu-process.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct qemu_ram ram = {0};
	uint64_t sum = 0;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (qemu_ram_parse(text, 64 * MIB, &ram, NULL) == 0) {
		for (uint32_t i = 0; i < ram.n_ranges; i++)
			sum += ram.ranges[i].bytes;
		if (ram.n_ranges > SAMPLE_RANGES_MAX || sum > 64 * MIB)
			abort();
	}
	free(text);
	return 0;
}
