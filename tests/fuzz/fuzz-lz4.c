/* LZ4 from a file of any kind: either it is refused, or what comes out fits. */
#include <stdint.h>
#include <stdlib.h>

#include "kvm-glue/lz4.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t sizes[] = {0, 1, 64, 65536};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint8_t *out = malloc(sizes[i] + 1); /* so that a sanitizer sees each byte beyond */
		size_t n = 0;

		if (!out)
			abort();
		out[sizes[i]] = 0x5a;
		if (lz4_legacy_decompress(data, size, out, sizes[i], &n) == 0 && n > sizes[i])
			abort();
		if (out[sizes[i]] != 0x5a)
			abort();
		free(out);
	}
	return 0;
}
