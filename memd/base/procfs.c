/*
 * Parsers for the kernel's figures about processes and swap. They trust the kernel's grammar, not
 * its completeness: a figure that is not there is an error, never a silent zero.
 */
#include "memd/base/procfs.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/fd.h"
#include "memd/base/units.h"

#define PROC_FILE_MAX_BYTES (64 * KIB)

/* /proc/PID/NAME whole; pid 0 is this process. */
static int read_proc_file(pid_t pid, const char *name, char **ret_text)
{
	char path[64];

	if (pid == 0)
		snprintf(path, sizeof(path), "/proc/self/%s", name);
	else
		snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	return fd_read_file_at(AT_FDCWD, path, PROC_FILE_MAX_BYTES, ret_text, NULL);
}

/* The value of the line "KEY:   123 kB" in bytes. -ENODATA when there is no such line. */
static int find_kib_line(const char *text, const char *key, uint64_t *ret_bytes)
{
	size_t key_size = strlen(key);

	for (const char *line = text; line && *line;) {
		uint64_t kib;

		if (strncmp(line, key, key_size) == 0 && line[key_size] == ':') {
			if (sscanf(line + key_size + 1, " %" SCNu64 " kB", &kib) != 1)
				return -EPROTO;
			if (kib > UINT64_MAX / KIB)
				return -EPROTO;
			*ret_bytes = kib * KIB;
			return 0;
		}
		line = strchr(line, '\n');
		if (line)
			line++;
	}
	return -ENODATA;
}

int procfs_parse_smaps_rollup(const char *text, struct smaps_rollup *ret)
{
	struct smaps_rollup s = {0};
	const struct {
		const char *key;
		uint64_t *value;
	} lines[] = {
		{"Rss", &s.rss_bytes},
		{"Pss", &s.pss_bytes},
		{"Pss_Anon", &s.pss_anon_bytes},
		{"Pss_File", &s.pss_file_bytes},
		{"Pss_Shmem", &s.pss_shmem_bytes},
		{"Anonymous", &s.anonymous_bytes},
		{"Swap", &s.swap_bytes},
		{"SwapPss", &s.swap_pss_bytes},
		{"AnonHugePages", &s.anon_huge_bytes},
	};

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		if (find_kib_line(text, lines[i].key, lines[i].value) < 0)
			return -EPROTO;
	*ret = s;
	return 0;
}

int procfs_read_smaps_rollup(pid_t pid, struct smaps_rollup *ret)
{
	_cleanup_free_ char *text = NULL;
	int r;

	r = read_proc_file(pid, "smaps_rollup", &text);
	if (r < 0)
		return r;
	if (!*text) /* exits: its memory is gone already */
		return -ESRCH;
	return procfs_parse_smaps_rollup(text, ret);
}

int procfs_read_page_table_bytes(pid_t pid, uint64_t *ret_bytes)
{
	_cleanup_free_ char *text = NULL;
	int r;

	r = read_proc_file(pid, "status", &text);
	if (r < 0)
		return r;
	r = find_kib_line(text, "VmPTE", ret_bytes);
	return r == -ENODATA ? -ESRCH : r; /* a zombie has a status, but no memory */
}

int procfs_parse_stat(const char *text, long ticks_per_second, struct proc_stat *ret)
{
	/*
	 * The command in field 2 is in parentheses and may hold any character, ')' too: take the
	 * last one.
	 */
	const char *rest = strrchr(text, ')');
	uint64_t minor, major, user, system;

	if (!rest || ticks_per_second <= 0)
		return -EPROTO;
	/* proc(5): fields 3 state ... 10 minflt, 12 majflt, 14 utime, 15 stime */
	if (sscanf(rest + 1,
		    " %*c %*d %*d %*d %*d %*d %*u %" SCNu64 " %*u %" SCNu64 " %*u %" SCNu64
		    " %" SCNu64,
		    &minor, &major, &user, &system) != 4)
		return -EPROTO;
	*ret = (struct proc_stat){
		.minor_faults = minor,
		.major_faults = major,
		.cpu_us = (uint64_t)((unsigned __int128)(user + system) * 1000000 /
				     (unsigned long)ticks_per_second),
	};
	return 0;
}

int procfs_read_stat(pid_t pid, struct proc_stat *ret)
{
	_cleanup_free_ char *text = NULL;
	int r;

	r = read_proc_file(pid, "stat", &text);
	if (r < 0)
		return r;
	return procfs_parse_stat(text, sysconf(_SC_CLK_TCK), ret);
}

int procfs_read_meminfo(uint64_t *ret_total_bytes, uint64_t *ret_available_bytes)
{
	_cleanup_free_ char *text = NULL;
	uint64_t total, available;
	int r;

	r = fd_read_file_at(AT_FDCWD, "/proc/meminfo", PROC_FILE_MAX_BYTES, &text, NULL);
	if (r < 0)
		return r;
	if (find_kib_line(text, "MemTotal", &total) < 0 ||
		find_kib_line(text, "MemAvailable", &available) < 0)
		return -EPROTO;
	*ret_total_bytes = total;
	*ret_available_bytes = available;
	return 0;
}

int procfs_parse_mm_stat(const char *text, struct swap_device *ret)
{
	uint64_t original, compressed, occupied;

	if (sscanf(text, " %" SCNu64 " %" SCNu64 " %" SCNu64, &original, &compressed, &occupied) !=
		3)
		return -EPROTO;
	ret->is_zram = true;
	ret->zram_original_bytes = original;
	ret->zram_compressed_bytes = compressed;
	ret->zram_occupied_bytes = occupied;
	return 0;
}

/* One line of /proc/swaps; false for the head line and what else is no device. */
static bool parse_swap_line(const char *line, struct swap_device *ret)
{
	struct swap_device d = {0};
	uint64_t size_kib, used_kib;

	if (line[0] != '/')
		return false;
	if (sscanf(line, "%63s %*s %" SCNu64 " %" SCNu64 " %" SCNd32, d.path, &size_kib, &used_kib,
		    &d.priority) != 4)
		return false;
	d.size_bytes = size_kib * KIB;
	d.used_bytes = used_kib * KIB;
	*ret = d;
	return true;
}

int procfs_parse_swaps(const char *text, struct swap_device **ret, size_t *ret_n)
{
	_cleanup_free_ struct swap_device *devices = NULL;
	size_t n_lines = 1, n = 0;

	for (const char *p = text; *p; p++)
		n_lines += *p == '\n';
	devices = calloc(n_lines, sizeof(*devices));
	if (!devices)
		return -ENOMEM;
	for (const char *line = text; line && *line;) {
		if (parse_swap_line(line, &devices[n]))
			n++;
		line = strchr(line, '\n');
		if (line)
			line++;
	}
	*ret = TAKE_PTR(devices);
	*ret_n = n;
	return 0;
}

/* Adds the figures of zram when that is what the device is; another device stays as it is. */
static int read_zram(struct swap_device *d)
{
	_cleanup_free_ char *text = NULL;
	const char *name = strrchr(d->path, '/');
	char path[128];
	int r;

	if (!name || strncmp(name, "/zram", strlen("/zram")) != 0)
		return 0;
	snprintf(path, sizeof(path), "/sys/block%s/mm_stat", name);
	r = fd_read_file_at(AT_FDCWD, path, 4096, &text, NULL);
	if (r < 0)
		return r;
	return procfs_parse_mm_stat(text, d);
}

int procfs_read_swaps(struct swap_device **ret, size_t *ret_n)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_free_ struct swap_device *devices = NULL;
	size_t n;
	int r;

	r = fd_read_file_at(AT_FDCWD, "/proc/swaps", PROC_FILE_MAX_BYTES, &text, NULL);
	if (r == -ENOENT) { /* a kernel without swap */
		*ret = NULL;
		*ret_n = 0;
		return 0;
	}
	if (r < 0)
		return r;
	r = procfs_parse_swaps(text, &devices, &n);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		r = read_zram(&devices[i]);
		if (r < 0 && r != -ENOENT) /* a file in a directory that happens to be named so */
			return r;
	}
	*ret = TAKE_PTR(devices);
	*ret_n = n;
	return 0;
}
