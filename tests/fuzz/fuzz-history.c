/* A history file of any bytes: read by the second and by the minute, and averaged. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memd/base/fd.h"
#include "memd/base/history-file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(int fd, uint32_t step_s, uint64_t now_s)
{
	struct history_record *records = NULL;
	struct error e = {0};
	size_t n;

	if (history_file_read(fd, 0, UINT64_MAX, step_s, now_s, &records, &n, &e) < 0)
		return;
	for (size_t i = 1; i < n; i++)
		if (records[i].time_s / step_s <= records[i - 1].time_s / step_s)
			abort();
	if (n)
		(void)history_average(records, n);
	free(records);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("history", MFD_CLOEXEC);

	if (fd < 0 || fd_pwrite_full(fd, data, size, 0) < 0 ||
		ftruncate(fd, 64 + 48 * (HISTORY_SECONDS + HISTORY_MINUTES)) < 0)
		abort();
	read_all(fd, 1, 100);
	read_all(fd, 60, 100 + size);
	read_all(fd, 1, UINT64_MAX / 2);
	close(fd);
	return 0;
}
