/* /proc of a QEMU; see qemu-process.h. */
#include "memd/qemu-process.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/fd.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"

#define COMMAND_LINE_MAX (1U << 20)
#define MAPS_MAX	 (16U << 20)
#define CANDIDATES_MAX	 4096
/* Smaller mappings are no guest's RAM. */
#define RAM_MIN_BYTES	 CHUNK_BYTES

/* Whether the strings, one after the other, have -uuid and then that UUID. */
static bool is_of_domain(const char *command_line, size_t n, const char *uuid)
{
	const char *former = "";

	for (size_t at = 0; at < n;) {
		const char *word = command_line + at;

		if (strcmp(former, "-uuid") == 0 && strcmp(word, uuid) == 0)
			return true;
		former = word;
		at += strlen(word) + 1;
	}
	return false;
}

static bool check_process(pid_t pid, const char *uuid)
{
	_cleanup_free_ char *text = NULL;
	char path[64];
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	return fd_read_file_at(AT_FDCWD, path, COMMAND_LINE_MAX, &text, &n) == 0 &&
	       is_of_domain(text, n, uuid);
}

static pid_t read_pid(const char *directory, const char *name)
{
	_cleanup_free_ char *path = NULL, *text = NULL;
	char *end;
	long pid;

	/* libvirt allows no '/' in a name; what would leave the directory is not looked for. */
	if (strchr(name, '/') || asprintf(&path, "%s/%s.pid", directory, name) < 0) {
		path = NULL;
		return 0;
	}
	if (fd_read_file_at(AT_FDCWD, path, 32, &text, NULL) < 0)
		return 0;
	errno = 0;
	pid = strtol(text, &end, 10);
	return errno || end == text || pid <= 1 || pid > INT32_MAX ? 0 : (pid_t)pid;
}

int qemu_process_find(const char *const *directories, const char *name, const char *uuid,
	pid_t *ret_pid, int *ret_pidfd, struct error *e)
{
	for (; *directories; directories++) {
		pid_t pid = read_pid(*directories, name);
		_cleanup_close_ int pidfd = pid ? fd_pidfd_open(pid) : -1;

		/* The pidfd first: when it still lives after the look, that was at this process. */
		if (pidfd < 0 || !check_process(pid, uuid) || fd_pidfd_ended(pidfd))
			continue;
		*ret_pid = pid;
		*ret_pidfd = TAKE_FD(pidfd);
		return 0;
	}
	return error_set(e, -ESRCH, "its process was not found: there is no pid file of it");
}

struct candidate {
	uint64_t start, end;
	uint64_t inode; /* 0: anonymous */
	bool shared;
};

/* A line of maps as a candidate; false when it cannot be RAM. */
static bool parse_line(const char *line, struct candidate *ret)
{
	char permissions[5];
	unsigned long long inode;
	int named = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*s %llu %n", &ret->start, &ret->end,
		    permissions, &inode, &named) < 4 ||
		ret->start >= ret->end || ret->start % PAGE_BYTES || ret->end % PAGE_BYTES)
		return false;
	ret->inode = inode;
	ret->shared = permissions[3] == 's';
	if (permissions[0] != 'r' || permissions[1] != 'w' || permissions[2] != '-')
		return false;
	/* Private pages of a program's file are its data, and "[heap]" is no RAM. */
	return ret->shared ? inode != 0
			   : inode == 0 && (!named || line[named] != '[' ||
						   strncmp(line + named, "[anon", 5) == 0);
}

static int by_size(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;
	uint64_t m = x->end - x->start, n = y->end - y->start;

	if (m != n)
		return m < n ? 1 : -1;
	return x->start < y->start ? -1 : x->start > y->start;
}

/* Neighbours of one kind may be one mapping that was split (mbind, madvise), or two. */
static bool goes_on(const struct candidate *before, const struct candidate *c)
{
	return before->end == c->start && before->inode == c->inode && before->shared == c->shared;
}

static size_t list_candidates(const char *maps, bool join, struct candidate *list)
{
	size_t n = 0, kept = 0;

	for (const char *line = maps; line && *line && n < CANDIDATES_MAX;) {
		const char *next = strchr(line, '\n');
		struct candidate c;

		if (parse_line(line, &c)) {
			if (join && n && goes_on(&list[n - 1], &c))
				list[n - 1].end = c.end;
			else
				list[n++] = c;
		}
		line = next ? next + 1 : NULL;
	}
	for (size_t i = 0; i < n; i++)
		if (list[i].end - list[i].start >= RAM_MIN_BYTES)
			list[kept++] = list[i];
	qsort(list, kept, sizeof(*list), by_size);
	return kept;
}

/* The largest ones that add up to it, all of one kind. */
static bool choose(const struct candidate *list, size_t n, uint64_t memory_bytes, bool shared,
	struct qemu_ram *ret)
{
	struct qemu_ram ram = {.shared = shared};
	uint64_t left = memory_bytes;

	for (size_t i = 0; i < n && left && ram.n_ranges < SAMPLE_RANGES_MAX; i++) {
		uint64_t size = list[i].end - list[i].start;

		if (list[i].shared != shared || size > left)
			continue;
		left -= size;
		ram.ranges[ram.n_ranges++] = (struct vmm_range){
			.hva = list[i].start,
			.bytes = u64_align_down(size, CHUNK_BYTES),
		};
	}
	if (left)
		return false;
	*ret = ram;
	return true;
}

int qemu_ram_parse(const char *maps, uint64_t memory_bytes, struct qemu_ram *ret, struct error *e)
{
	_cleanup_free_ struct candidate *list = calloc(CANDIDATES_MAX, sizeof(*list));

	if (!list)
		return -ENOMEM;
	for (int join = 0; join <= 1; join++) {
		size_t n = list_candidates(maps, join, list);

		if (choose(list, n, memory_bytes, false, ret) ||
			choose(list, n, memory_bytes, true, ret))
			return 0;
	}
	return error_set(e, -ENOENT, "no mappings of its process add up to its memory of %s",
		UNITS_BYTES(memory_bytes));
}

int qemu_ram_find(pid_t pid, uint64_t memory_bytes, struct qemu_ram *ret, struct error *e)
{
	_cleanup_free_ char *text = NULL;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	r = fd_read_file_at(AT_FDCWD, path, MAPS_MAX, &text, NULL);
	if (r < 0)
		return error_set(e, r, "cannot read %s: %s", path, strerror(-r));
	return qemu_ram_parse(text, memory_bytes, ret, e);
}
