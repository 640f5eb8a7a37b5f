/* See ksm.h. */
#include "tests/bench/ksm.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "memd/base/fd.h"

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif

#define TEXT_MAX 256

/* In the order in which they are put back. */
static const char *const kept_names[] = {"sleep_millisecs", "pages_to_scan", "use_zero_pages",
	"smart_scan", "max_page_sharing", "advisor_mode", "run"};

static void path_of(const char *name, char path[64])
{
	snprintf(path, 64, "/sys/kernel/mm/ksm/%s", name);
}

static int write_text(const char *name, const char *text)
{
	char path[64];

	path_of(name, path);
	return fd_write_file_at(AT_FDCWD, path, text);
}

int ksm_set(const char *name, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	return write_text(name, text);
}

static int read_text(const char *name, char text[TEXT_MAX])
{
	_cleanup_free_ char *whole = NULL;
	char path[64];
	size_t size;
	int r;

	path_of(name, path);
	r = fd_read_file_at(AT_FDCWD, path, TEXT_MAX - 1, &whole, &size);
	if (r == 0)
		snprintf(text, TEXT_MAX, "%s", whole);
	return r;
}

/* Of "[none] scan-time" the one in use, else the whole line. */
static void keep_chosen(char *text)
{
	char *open = strchr(text, '['), *close = open ? strchr(open, ']') : NULL;

	if (close) {
		*close = '\0';
		memmove(text, open + 1, strlen(open + 1) + 1);
	}
}

static uint64_t read_number(const char *name)
{
	char text[TEXT_MAX];

	return read_text(name, text) < 0 ? 0 : strtoull(text, NULL, 10);
}

static pid_t find_ksmd(void)
{
	_cleanup_closedir_ DIR *d = opendir("/proc");
	const struct dirent *entry;

	while (d && (entry = readdir(d))) {
		_cleanup_free_ char *comm = NULL;
		char path[300];
		size_t size;

		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		if (atoi(entry->d_name) > 0 &&
			fd_read_file_at(AT_FDCWD, path, 64, &comm, &size) == 0 &&
			strcmp(comm, "ksmd\n") == 0)
			return (pid_t)atoi(entry->d_name);
	}
	return -1;
}

static void put_back(char kept[][TEXT_MAX])
{
	for (size_t i = 0; i < ARRAY_SIZE(kept_names); i++)
		if (kept[i][0])
			write_text(kept_names[i], kept[i]);
}

static int start_guardian(struct ksm *k, char kept[][TEXT_MAX])
{
	int pipe_fds[2];

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	k->guardian = fork();
	if (k->guardian == 0) {
		char c;

		setsid(); /* a signal to the terminal's group is not for the guardian */
		close(pipe_fds[1]);
		while (read(pipe_fds[0], &c, 1) < 0 && errno == EINTR)
			;
		put_back(kept);
		_exit(0);
	}
	close(pipe_fds[0]);
	k->alive_fd = pipe_fds[1];
	return k->guardian < 0 ? -errno : 0;
}

int ksm_begin(struct ksm *k, struct error *e)
{
	char kept[ARRAY_SIZE(kept_names)][TEXT_MAX];
	int r;

	*k = KSM_NONE;
	k->ksmd = find_ksmd();
	if (k->ksmd < 0)
		return error_set(e, -ENOSYS, "this kernel has no ksmd");
	for (size_t i = 0; i < ARRAY_SIZE(kept_names); i++) {
		kept[i][0] = '\0'; /* older kernels have fewer */
		if (read_text(kept_names[i], kept[i]) == 0)
			keep_chosen(kept[i]);
	}
	r = start_guardian(k, kept);
	if (r == 0)
		r = ksm_set("run", 2);
	if (r == 0)
		r = ksm_set("run", 0);
	if (r < 0) {
		ksm_end(k);
		return error_set(e, r, "setting /sys/kernel/mm/ksm: %s", strerror(-r));
	}
	write_text("advisor_mode", "none");
	ksm_set("sleep_millisecs", 0);
	ksm_set("pages_to_scan", 10000);
	ksm_set("use_zero_pages", 1);
	ksm_set("smart_scan", 1);
	return 0;
}

void ksm_end(struct ksm *k)
{
	if (k->guardian > 0) {
		close(k->alive_fd);
		waitpid(k->guardian, NULL, 0);
	}
	*k = KSM_NONE;
}

struct ksm_counters ksm_counters_read(void)
{
	return (struct ksm_counters){
		.freed_pages = read_number("pages_sharing") + read_number("ksm_zero_pages"),
		.full_scans = read_number("full_scans"),
	};
}

int ksm_merge_children(int on)
{
	return prctl(PR_SET_MEMORY_MERGE, on, 0, 0, 0) < 0 ? -errno : 0;
}

int ksm_is_merged(pid_t pid)
{
	_cleanup_free_ char *text = NULL;
	char path[40];
	size_t size;

	snprintf(path, sizeof(path), "/proc/%d/ksm_stat", (int)pid);
	return fd_read_file_at(AT_FDCWD, path, 4096, &text, &size) == 0 &&
	       strstr(text, "ksm_merge_any: yes");
}
