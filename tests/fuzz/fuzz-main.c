/*
 * Runs a fuzz target (tests/fuzz/fuzz-NAME.c) as a regression test: over the files and directories
 * given as arguments, or over its own corpus, tests/fuzz/corpus/NAME. Each file is one TAP line:
 * the target gets the file, then prefixes of it, since a cut message is what a parser meets first.
 * A target that finds a fault aborts, which leaves the plan short. Never used with libFuzzer, which
 * has a main of its own.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "memd/base/cleanup.h"
#include "memd/base/fd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX_BYTES (1024 * 1024)
#define PREFIXES_MAX	256 /* evenly spread over larger inputs */

static unsigned n_run;

/*
 * The input in a heap block of exactly its size, so that the address sanitizer sees a read past it.
 */
static int run_exact(const char *text, size_t size)
{
	_cleanup_free_ uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, text, size);
	LLVMFuzzerTestOneInput(copy, size);
	return 0;
}

static int run_file(int dir_fd, const char *path)
{
	_cleanup_free_ char *text = NULL;
	size_t size, step;
	int r;

	r = fd_read_file_at(dir_fd, path, INPUT_MAX_BYTES, &text, &size);
	if (r == 0)
		r = run_exact(text, size);
	step = r == 0 && size > PREFIXES_MAX ? size / PREFIXES_MAX : 1;
	for (size_t n = 0; r == 0 && n < size; n += step)
		r = run_exact(text, n);
	n_run++;
	if (r < 0)
		printf("not ok %u - %s: %s\n", n_run, path, strerror(-r));
	else
		printf("ok %u - %s\n", n_run, path);
	fflush(stdout); /* before the next input may abort */
	return r;
}

static int run_directory(const char *path)
{
	_cleanup_closedir_ DIR *dir = opendir(path);
	struct dirent *entry;
	int result = 0;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		if (entry->d_type == DT_REG && run_file(dirfd(dir), entry->d_name) < 0)
			result = -EIO;
	return result;
}

static int run_path(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? run_directory(path) : run_file(AT_FDCWD, path);
}

int main(int argc, char *argv[])
{
	int result = 0;

	for (int i = argc > 1 ? 1 : 0; i < argc; i++) {
		const char *path = argc > 1 ? argv[i] : MEMD_FUZZ_CORPUS;
		int r = run_path(path);

		if (r < 0) {
			fprintf(stderr, "%s: %s\n", path, strerror(-r));
			result = 1;
		}
	}
	printf("1..%u\n", n_run);
	if (n_run == 0) {
		fprintf(stderr, "the corpus is empty\n");
		result = 1;
	}
	return result;
}
