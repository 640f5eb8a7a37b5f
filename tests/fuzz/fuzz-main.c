/*
 * Runs a fuzz target as a regression: LLVMFuzzerTestOneInput over each file given as argument. A run
 * without a single input is a failure, since it would prove nothing.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memd/base/fd.h"

#define INPUT_BYTES_MAX (1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "%s: no input files\n", argv[0]);
		return 1;
	}
	for (int i = 1; i < argc; i++) {
		_cleanup_free_ char *text = NULL;
		size_t size;
		int r = fd_read_file_at(AT_FDCWD, argv[i], INPUT_BYTES_MAX, &text, &size);

		if (r < 0) {
			fprintf(stderr, "%s: cannot read %s (%d)\n", argv[0], argv[i], r);
			return 1;
		}
		/* exactly size bytes, so that a sanitizer sees a read past the end */
		_cleanup_free_ uint8_t *input = malloc(size ? size : 1);

		if (!input)
			return 1;
		memcpy(input, text, size);
		LLVMFuzzerTestOneInput(input, size);
	}
	return 0;
}
