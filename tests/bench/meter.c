/* See meter.h. */
#include "tests/bench/meter.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include "memd/base/fd.h"

#define SLABINFO_MAX (1 << 20)

static char *read_proc(const char *path)
{
	char *text;
	size_t size;

	return fd_read_file_at(AT_FDCWD, path, SLABINFO_MAX, &text, &size) == 0 ? text : NULL;
}

uint64_t meter_thread_us(pid_t pid, pid_t tid)
{
	_cleanup_free_ char *text = NULL;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", (int)pid, (int)tid);
	text = read_proc(path);
	return text ? strtoull(text, NULL, 10) / 1000 : 0;
}

void meter_vmm_add(pid_t pid, struct meter_vmm *sum)
{
	_cleanup_closedir_ DIR *d = NULL;
	const struct dirent *entry;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	d = opendir(path);
	while (d && (entry = readdir(d))) {
		_cleanup_free_ char *comm = NULL;
		pid_t tid = (pid_t)atoi(entry->d_name);

		if (tid <= 0 || tid == pid)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", (int)pid, (int)tid);
		comm = read_proc(path);
		if (comm && strncmp(comm, "memd-scan", 9) == 0)
			sum->scanner_us += meter_thread_us(pid, tid);
		else
			sum->vcpus_us += meter_thread_us(pid, tid);
	}
}

uint64_t meter_slab_bytes(void)
{
	static const char *const names[] = {"vm_area_struct", "maple_node", "anon_vma",
		"anon_vma_chain", "ksm_rmap_item", "ksm_stable_node", "ksm_mm_slot"};
	_cleanup_free_ char *text = read_proc("/proc/slabinfo");
	uint64_t bytes = 0;
	char *rest = text;

	for (char *line; rest && (line = strsep(&rest, "\n"));) {
		unsigned long long active, total, size;
		char name[64];

		if (sscanf(line, "%63s %llu %llu %llu", name, &active, &total, &size) != 4)
			continue;
		for (size_t i = 0; i < ARRAY_SIZE(names); i++)
			if (strcmp(name, names[i]) == 0)
				bytes += active * size;
	}
	return bytes;
}

uint64_t meter_anonymous_pages(pid_t pid)
{
	_cleanup_free_ char *text = NULL;
	unsigned long long size, resident, shared;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	text = read_proc(path);
	if (!text || sscanf(text, "%llu %llu %llu", &size, &resident, &shared) != 3)
		return 0;
	return resident - shared;
}
