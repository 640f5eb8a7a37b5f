/* See demo-kernel.h. */
#include "tests/scenario/demo-kernel.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "memd/base/fd.h"
#include "memd/base/procfs.h"

#define SMALL_FILE_MAX	 4096
#define STAT_BLOCK_BYTES 512 /* stat(2): st_blocks */

/* The parent of a process, 0 when it is gone. proc(5): the field behind the command in () and the state. */
static pid_t parent_of(const char *pid)
{
	_cleanup_free_ char *text = NULL;
	char path[300]; /* a name of a directory and what surrounds it */
	const char *rest;
	int parent;
	size_t size;

	snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	if (fd_read_file_at(AT_FDCWD, path, SMALL_FILE_MAX, &text, &size) < 0)
		return 0;
	rest = strrchr(text, ')');
	if (!rest || sscanf(rest + 1, " %*c %d", &parent) != 1)
		return 0;
	return parent;
}

/* proc(5): the mode of the link says how the file is open. */
static bool is_writable(int fd_directory, const char *fd)
{
	struct stat s;

	return fstatat(fd_directory, fd, &s, AT_SYMLINK_NOFOLLOW) == 0 && (s.st_mode & S_IWUSR);
}

/*
 * Blocks of the memfds that memd-pool has open to write them: each is open a second time, for reading, to
 * be handed to members, who have them open too.
 */
static uint64_t memfd_bytes(const char *pid)
{
	char path[300], target[64];
	_cleanup_closedir_ DIR *directory = NULL;
	uint64_t bytes = 0;
	struct dirent *entry;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	directory = opendir(path);
	if (!directory)
		return 0;
	while ((entry = readdir(directory))) {
		ssize_t n = readlinkat(dirfd(directory), entry->d_name, target, sizeof(target) - 1);
		struct stat s;

		if (n < 0)
			continue;
		target[n] = '\0';
		if (strncmp(target, "/memfd:", strlen("/memfd:")) == 0 &&
			is_writable(dirfd(directory), entry->d_name) &&
			fstatat(dirfd(directory), entry->d_name, &s, 0) == 0)
			bytes += (uint64_t)s.st_blocks * STAT_BLOCK_BYTES;
	}
	return bytes;
}

static int is_pool(const char *pid)
{
	_cleanup_free_ char *name = NULL;
	char path[300]; /* a name of a directory and what surrounds it */
	size_t size;

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	return fd_read_file_at(AT_FDCWD, path, SMALL_FILE_MAX, &name, &size) == 0 &&
	       strcmp(name, "memd-pool\n") == 0;
}

static int add_process(const char *name, struct kernel_figures *figures, struct error *e)
{
	pid_t pid = (pid_t)strtol(name, NULL, 10);
	struct smaps_rollup rollup;
	uint64_t page_table_bytes;
	int r;

	r = procfs_read_smaps_rollup(pid, &rollup);
	if (r >= 0)
		r = procfs_read_page_table_bytes(pid, &page_table_bytes);
	if (r == -ESRCH || r == -ENOENT)
		return 0;
	if (r < 0)
		return error_set(e, r, "cannot read /proc/%s/smaps_rollup and status", name);
	figures->n_processes++;
	figures->process_bytes += rollup.pss_anon_bytes + rollup.pss_file_bytes + page_table_bytes;
	figures->swapped_bytes += rollup.swap_pss_bytes;
	if (is_pool(name))
		figures->pool_bytes += memfd_bytes(name);
	return 0;
}

/* Nobody can say whose page compressed how: what zram occupies is split by what is swapped. */
static int read_occupied(uint64_t swapped_bytes, uint64_t *ret_bytes, struct error *e)
{
	_cleanup_free_ struct swap_device *devices = NULL;
	uint64_t used_bytes = 0, occupied_bytes = 0;
	size_t n;
	int r = procfs_read_swaps(&devices, &n);

	if (r < 0)
		return error_set(e, r, "cannot read the swap devices");
	for (size_t i = 0; i < n; i++) {
		used_bytes += devices[i].used_bytes;
		occupied_bytes += devices[i].zram_occupied_bytes;
	}
	if (swapped_bytes < used_bytes)
		occupied_bytes =
			(uint64_t)((unsigned __int128)occupied_bytes * swapped_bytes / used_bytes);
	*ret_bytes = occupied_bytes;
	return 0;
}

int kernel_figures_read(pid_t memd_pid, struct kernel_figures *ret, struct error *e)
{
	_cleanup_closedir_ DIR *proc = opendir("/proc");
	struct kernel_figures figures = {};
	struct dirent *entry;
	int r;

	if (!proc)
		return error_set(e, -errno, "cannot read /proc");
	while ((entry = readdir(proc))) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		if (strtol(entry->d_name, NULL, 10) != memd_pid &&
			parent_of(entry->d_name) != memd_pid)
			continue;
		r = add_process(entry->d_name, &figures, e);
		if (r < 0)
			return r;
	}
	r = read_occupied(figures.swapped_bytes, &figures.occupied_bytes, e);
	if (r < 0)
		return r;
	*ret = figures;
	return 0;
}
