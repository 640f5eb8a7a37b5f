/*
 * Directories of the memory controller. Knows how v1 and v2 spell things, and nothing of guests or
 * budgets. Never moves a process by itself and never removes a directory that has processes.
 */
#include "memd/base/cgroup.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include "memd/base/fd.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"

#define CONTROL_FILE_MAX_BYTES (64 * KIB)

/*
 * v1 only (v2 has no such file): anonymous and file pages are reclaimed alike. What is in the group
 * is guest RAM, nearly all anonymous, and the VMM's own code; the default of 60 would make the
 * kernel evict code that every exit needs before it pages out cold guest RAM. 100 is the largest
 * value that all kernels take. memory.memsw is left alone: a bound on RAM plus swap would take away
 * the very swap that memd pages out to.
 */
#define V1_SWAPPINESS "100"

struct cgroup {
	enum cgroup_mode mode;
	int fd; /* the directory */
	char path[];
};

/* Undoes the octal escapes of mountinfo (\040 for a blank), in place. */
static void unescape(char *text)
{
	char *out = text;

	for (const char *in = text; *in; in++) {
		if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] >= '0' && in[2] <= '7' &&
			in[3] >= '0' && in[3] <= '7') {
			*out++ = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
			in += 3;
		} else {
			*out++ = *in;
		}
	}
	*out = '\0';
}

/* Whether the comma- or blank-separated list has the word. */
static bool list_has(const char *list, const char *word)
{
	size_t size = strlen(word);

	while (*list) {
		size_t n = strcspn(list, ", \n");

		if (n == size && strncmp(list, word, n) == 0)
			return true;
		list += n;
		list += strspn(list, ", \n");
	}
	return false;
}

static bool v2_has_memory(const char *mount)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_free_ char *controllers = NULL;

	if (asprintf(&path, "%s/cgroup.controllers", mount) < 0) {
		path = NULL;
		return false;
	}
	if (fd_read_file_at(AT_FDCWD, path, CONTROL_FILE_MAX_BYTES, &controllers, NULL) < 0)
		return false;
	return list_has(controllers, "memory");
}

/*
 * One line of mountinfo (proc(5)): "36 35 98:0 /root /mount options [tags] - type source
 * superoptions". Says whether it holds the memory controller; *ret_mount points into the line then.
 */
static enum cgroup_mode parse_mount_line(char *line, char **ret_mount)
{
	char *separator = strstr(line, " - ");
	char *mount = line, *end;
	char type[32], super[512];

	if (!separator || sscanf(separator + 3, "%31s %*s %511s", type, super) != 2)
		return CGROUP_NONE;
	for (int i = 0; i < 4; i++) {
		mount = strchr(mount, ' ');
		if (!mount)
			return CGROUP_NONE;
		mount++;
	}
	end = strchr(mount, ' ');
	if (!end)
		return CGROUP_NONE;
	*end = '\0';
	unescape(mount);
	*ret_mount = mount;
	if (strcmp(type, "cgroup") == 0 && list_has(super, "memory"))
		return CGROUP_V1;
	if (strcmp(type, "cgroup2") == 0 && v2_has_memory(mount))
		return CGROUP_V2;
	return CGROUP_NONE;
}

enum cgroup_mode cgroup_detect(char *ret_mount, size_t size, struct error *e)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/mountinfo", "re");
	_cleanup_free_ char *line = NULL;
	size_t room = 0;

	if (!f) {
		error_set(e, -errno, "cannot read /proc/self/mountinfo: %m");
		return CGROUP_NONE;
	}
	while (getline(&line, &room, f) >= 0) {
		char *mount;
		enum cgroup_mode mode = parse_mount_line(line, &mount);

		if (mode == CGROUP_NONE)
			continue;
		if (access(mount, W_OK) < 0) {
			error_set(
				e, -errno, "no permission to make memory cgroups in %s: %m", mount);
			return CGROUP_NONE;
		}
		if (strlen(mount) >= size) {
			error_set(e, -ENAMETOOLONG, "the path %s is too long", mount);
			return CGROUP_NONE;
		}
		strcpy(ret_mount, mount);
		return mode;
	}
	error_set(e, -ENOENT,
		"no memory controller is mounted; mount cgroup2 on /sys/fs/cgroup, or boot with "
		"cgroup_enable=memory");
	return CGROUP_NONE;
}

static int read_file(const struct cgroup *c, const char *name, char **ret_text)
{
	return fd_read_file_at(c->fd, name, CONTROL_FILE_MAX_BYTES, ret_text, NULL);
}

/* Whether processes are in the directory at path: 1, 0 or negative errno. */
static int has_processes(const char *path)
{
	_cleanup_free_ char *procs = NULL;
	_cleanup_free_ char *text = NULL;
	int r;

	if (asprintf(&procs, "%s/cgroup.procs", path) < 0) {
		procs = NULL;
		return -ENOMEM;
	}
	r = fd_read_file_at(AT_FDCWD, procs, CONTROL_FILE_MAX_BYTES, &text, NULL);
	if (r == -E2BIG)
		return 1;
	if (r < 0)
		return r;
	return *text != '\0';
}

/*
 * Removes what a former memd left behind: the empty groups in path, and path itself unless
 * something lives in it. The kernel refuses (EBUSY) wherever there is a process, so nothing can be
 * lost.
 */
static void remove_stale(const char *path)
{
	_cleanup_closedir_ DIR *dir = opendir(path);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
	}
	rmdir(path);
}

static int make_directory(const char *path, struct error *e)
{
	int r;

	if (mkdir(path, 0755) == 0)
		return 0;
	if (errno != EEXIST)
		return error_set(e, -errno, "cannot make the cgroup %s: %m", path);
	remove_stale(path);
	if (mkdir(path, 0755) == 0)
		return 0;
	if (errno != EEXIST)
		return error_set(e, -errno, "cannot make the cgroup %s: %m", path);
	/* Groups in it live on; that is fine as long as nobody is in this one itself. */
	r = has_processes(path);
	if (r < 0)
		return error_set(e, r, "cannot read %s/cgroup.procs: %s", path, strerror(-r));
	if (r > 0)
		return error_set(e, -EBUSY, "the cgroup %s is in use by another process", path);
	return 0;
}

/* v2: a controller is there in a child only when the parent's subtree_control says so. */
static int enable_in_children(enum cgroup_mode mode, const char *parent, struct error *e)
{
	_cleanup_free_ char *path = NULL;
	int r;

	if (mode != CGROUP_V2)
		return 0;
	if (asprintf(&path, "%s/cgroup.subtree_control", parent) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	r = fd_write_file_at(AT_FDCWD, path, "+memory");
	if (r < 0)
		return error_set(e, r, "cannot enable the memory controller in %s: %s%s", path,
			strerror(-r), r == -EBUSY ? " (processes are in that group itself)" : "");
	return 0;
}

/*
 * Settings that every group of ours has. On kernels before 5.11 a v1 group counts its children only
 * when told to.
 */
static int prepare(const struct cgroup *c, struct error *e)
{
	int r;

	if (c->mode != CGROUP_V1)
		return 0;
	r = fd_write_file_at(c->fd, "memory.use_hierarchy", "1");
	if (r == -EBUSY) /* taken over, with children: set already, or the kernel decided */
		r = 0;
	if (r < 0 && r != -ENOENT)
		return error_set(e, r, "cannot make %s hierarchical: %s", c->path, strerror(-r));
	r = fd_write_file_at(c->fd, "memory.swappiness", V1_SWAPPINESS);
	if (r < 0 && r != -ENOENT)
		return error_set(
			e, r, "cannot set the swappiness of %s: %s", c->path, strerror(-r));
	return 0;
}

static bool name_is_component(const char *name)
{
	return *name && *name != '.' && !strchr(name, '/');
}

static int open_directory(
	enum cgroup_mode mode, const char *path, struct cgroup **ret, struct error *e)
{
	size_t size = strlen(path) + 1;
	struct cgroup *c = malloc(sizeof(*c) + size);

	if (!c)
		return -ENOMEM;
	c->mode = mode;
	memcpy(c->path, path, size);
	c->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->fd < 0) {
		int r = error_set(e, -errno, "cannot open the cgroup %s: %m", path);

		free(c);
		return r;
	}
	*ret = c;
	return 0;
}

/* The path of `name` under the parent or the mount, the caller's. */
static int make_path(enum cgroup_mode mode, const struct cgroup *parent, const char *name,
	char **ret_parent, char **ret_path, struct error *e)
{
	_cleanup_free_ char *parent_path = NULL;
	_cleanup_free_ char *path = NULL;
	char mount[512];

	if (!name_is_component(name))
		return error_set(e, -EINVAL, "'%s' cannot name a cgroup", name);
	if (mode == CGROUP_NONE)
		return error_set(e, -EOPNOTSUPP, "this host has no memory cgroups");
	if (!parent && cgroup_detect(mount, sizeof(mount), e) != mode)
		return error_set(e, -EOPNOTSUPP, "the memory controller is not of that version");
	parent_path = strdup(parent ? parent->path : mount);
	if (!parent_path)
		return -ENOMEM;
	if (asprintf(&path, "%s/%s", parent_path, name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	*ret_parent = TAKE_PTR(parent_path);
	*ret_path = TAKE_PTR(path);
	return 0;
}

int cgroup_new(enum cgroup_mode mode, const struct cgroup *parent, const char *name,
	struct cgroup **ret, struct error *e)
{
	_cleanup_free_ char *parent_path = NULL;
	_cleanup_free_ char *path = NULL;
	struct cgroup *c;
	int r;

	r = make_path(mode, parent, name, &parent_path, &path, e);
	if (r < 0)
		return r;
	r = enable_in_children(mode, parent_path, e);
	if (r < 0)
		return r;
	r = make_directory(path, e);
	if (r < 0)
		return r;
	r = open_directory(mode, path, &c, e);
	if (r < 0) {
		rmdir(path);
		return r;
	}
	r = prepare(c, e);
	if (r < 0) {
		cgroup_remove(c);
		cgroup_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

int cgroup_open(enum cgroup_mode mode, const struct cgroup *parent, const char *name,
	struct cgroup **ret, struct error *e)
{
	_cleanup_free_ char *parent_path = NULL;
	_cleanup_free_ char *path = NULL;
	int r;

	r = make_path(mode, parent, name, &parent_path, &path, e);
	if (r < 0)
		return r;
	return open_directory(mode, path, ret, e);
}

void cgroup_free(struct cgroup *c)
{
	if (!c)
		return;
	close(c->fd);
	free(c);
}

int cgroup_remove(struct cgroup *c)
{
	return rmdir(c->path) < 0 ? -errno : 0;
}

int cgroup_open_procs(const struct cgroup *c)
{
	int fd = openat(c->fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int cgroup_attach(const struct cgroup *c, pid_t pid)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", (int)pid);
	return fd_write_file_at(c->fd, "cgroup.procs", text);
}

static int write_number(const struct cgroup *c, const char *name, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	return fd_write_file_at(c->fd, name, text);
}

static int read_number(const struct cgroup *c, const char *name, uint64_t *ret)
{
	_cleanup_free_ char *text = NULL;
	int r;

	r = read_file(c, name, &text);
	if (r < 0)
		return r;
	return sscanf(text, "%" SCNu64, ret) == 1 ? 0 : -EPROTO;
}

static int set_limit_v1(struct cgroup *c, uint64_t bytes, uint64_t *ret_set)
{
	uint64_t usage = 0;
	int r;

	if (bytes == UINT64_MAX) {
		r = fd_write_file_at(c->fd, "memory.limit_in_bytes", "-1");
		if (r < 0)
			return r;
		*ret_set = bytes;
		return 0;
	}
	r = cgroup_read_usage(c, &usage);
	if (r < 0)
		return r;
	bytes = u64_max(u64_align_down(bytes, PAGE_BYTES), usage);
	r = write_number(c, "memory.limit_in_bytes", bytes);
	if (r < 0)
		return r;
	*ret_set = bytes;
	return 0;
}

static int set_limit_v2(struct cgroup *c, uint64_t bytes, uint64_t *ret_set)
{
	int r;

	if (bytes == UINT64_MAX) {
		r = fd_write_file_at(c->fd, "memory.high", "max");
	} else {
		bytes = u64_align_down(bytes, PAGE_BYTES);
		r = write_number(c, "memory.high", bytes);
	}
	if (r < 0)
		return r;
	*ret_set = bytes;
	return 0;
}

int cgroup_set_limit(struct cgroup *c, uint64_t bytes, uint64_t *ret_set)
{
	uint64_t set;
	int r;

	r = c->mode == CGROUP_V2 ? set_limit_v2(c, bytes, &set) : set_limit_v1(c, bytes, &set);
	if (r < 0)
		return r;
	if (ret_set)
		*ret_set = set;
	return 0;
}

int cgroup_read_usage(const struct cgroup *c, uint64_t *ret_bytes)
{
	return read_number(
		c, c->mode == CGROUP_V2 ? "memory.current" : "memory.usage_in_bytes", ret_bytes);
}

/*
 * cgroup-v1/memory.rst, 9: "EVENT_FD FILE_FD THRESHOLD" to cgroup.event_control. The
 * kernel keeps it until the eventfd is closed or the group is removed (which also fires it).
 */
int cgroup_watch_threshold(struct cgroup *c, uint64_t bytes, int *ret_eventfd)
{
	_cleanup_close_ int event = -1;
	_cleanup_close_ int control = -1;
	char text[64];
	int r;

	if (c->mode != CGROUP_V1)
		return -EOPNOTSUPP;
	control = openat(c->fd, "memory.usage_in_bytes", O_RDONLY | O_CLOEXEC);
	if (control < 0)
		return -errno;
	event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (event < 0)
		return -errno;
	snprintf(text, sizeof(text), "%d %d %" PRIu64, event, control, bytes);
	r = fd_write_file_at(c->fd, "cgroup.event_control", text);
	if (r < 0)
		return r;
	*ret_eventfd = TAKE_FD(event);
	return 0;
}

/* The number after "total=" in the line that begins with the word. */
static int read_total(const char *text, const char *word, uint64_t *ret)
{
	const char *line = strstr(text, word);
	const char *total = line ? strstr(line, "total=") : NULL;

	return total && sscanf(total, "total=%" SCNu64, ret) == 1 ? 0 : -EPROTO;
}

int cgroup_parse_pressure(const char *text, uint64_t *ret_some_us, uint64_t *ret_full_us)
{
	uint64_t some, full;

	if (read_total(text, "some ", &some) < 0 || read_total(text, "full ", &full) < 0)
		return -EPROTO;
	*ret_some_us = some;
	*ret_full_us = full;
	return 0;
}

int cgroup_read_pressure(const struct cgroup *c, uint64_t *ret_some_us, uint64_t *ret_full_us)
{
	_cleanup_free_ char *text = NULL;
	int r;

	if (c->mode != CGROUP_V2)
		return -EOPNOTSUPP;
	r = read_file(c, "memory.pressure", &text);
	return r < 0 ? r : cgroup_parse_pressure(text, ret_some_us, ret_full_us);
}
