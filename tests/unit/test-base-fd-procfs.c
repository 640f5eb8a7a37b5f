/*
 * Files, processes and the kernel's figures: parsers by text, and each reader once on this process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "memd/base/alloc-stats.h"
#include "memd/base/cleanup.h"
#include "memd/base/fd.h"
#include "memd/base/pagemap.h"
#include "memd/base/procfs.h"
#include "memd/base/units.h"

static int make_dir(void **state)
{
	static char dir[32];

	strcpy(dir, "/tmp/memd-test-fd-XXXXXX");
	*state = mkdtemp(dir);
	return *state ? 0 : -1;
}

static int remove_dir(void **state)
{
	return rmdir(*state);
}

static void reads_files_up_to_the_bound(void **state)
{
	_cleanup_close_ int file = memfd_create("file", MFD_CLOEXEC);
	char path[64], content[10000];
	_cleanup_free_ char *text = NULL;
	size_t size;

	memset(content, 'x', sizeof(content));
	assert_int_equal(fd_write_full(file, content, sizeof(content)), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	assert_int_equal(
		fd_read_file_at(AT_FDCWD, path, sizeof(content) - 1, &text, &size), -E2BIG);
	assert_null(text);
	for (size_t more = 0; more < 2; more++) {
		assert_int_equal(
			fd_read_file_at(AT_FDCWD, path, sizeof(content) + more, &text, &size), 0);
		assert_int_equal(size, sizeof(content));
		assert_int_equal(strlen(text), sizeof(content));
		free(TAKE_PTR(text));
	}
	assert_int_equal(ftruncate(file, 0), 0);
	assert_int_equal(fd_read_file_at(AT_FDCWD, path, 0, &text, &size), 0);
	assert_int_equal(size, 0);
	assert_string_equal(text, "");
	free(TAKE_PTR(text));
	assert_int_equal(fd_read_file_at(AT_FDCWD, "/nowhere", 1, &text, NULL), -ENOENT);
}

static void writes_only_files_that_are_there(void **state)
{
	char path[64];
	_cleanup_free_ char *text = NULL;

	snprintf(path, sizeof(path), "%s/f", (const char *)*state);
	assert_int_equal(fd_write_file_at(AT_FDCWD, path, "12"), -ENOENT);
	assert_int_equal(close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
	assert_int_equal(fd_write_file_at(AT_FDCWD, path, "12"), 0);
	assert_int_equal(fd_read_file_at(AT_FDCWD, path, 10, &text, NULL), 0);
	assert_string_equal(text, "12");
	assert_int_equal(unlink(path), 0);
}

static void tells_the_end_of_a_file(void **state)
{
	_cleanup_close_ int file = memfd_create("file", MFD_CLOEXEC);
	char buffer[8];

	assert_int_equal(fd_pwrite_full(file, "abcd", 4, 2), 0);
	assert_int_equal(lseek(file, 2, SEEK_SET), 2);
	assert_int_equal(fd_read_full(file, buffer, 4), 0);
	assert_memory_equal(buffer, "abcd", 4);
	assert_int_equal(lseek(file, 2, SEEK_SET), 2);
	assert_int_equal(fd_read_full(file, buffer, 5), -EIO);
	assert_int_equal(fd_read_full(-1, buffer, 1), -EBADF);
}

static void makes_parents_and_keeps_what_is_there(void **state)
{
	char path[64], file[80];
	struct stat st;

	snprintf(path, sizeof(path), "%s/a/b", (const char *)*state);
	assert_int_equal(fd_mkdir_parents(path, 0700), 0);
	assert_int_equal(fd_mkdir_parents(path, 0700), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	snprintf(file, sizeof(file), "%s/f", path);
	assert_int_equal(close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
	assert_int_equal(fd_mkdir_parents(file, 0700), -ENOTDIR);
	assert_int_equal(unlink(file), 0);
	assert_int_equal(rmdir(path), 0);
	*strrchr(path, '/') = '\0';
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(fd_mkdir_parents("", 0700), -EINVAL);
}

/* A child that waits for its end. */
static pid_t start_child(void)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		pause();
		_exit(0);
	}
	return pid;
}

static void signals_a_process_by_pidfd(void **state)
{
	pid_t pid = start_child();
	_cleanup_close_ int pidfd = fd_pidfd_open(pid);
	int status;

	assert_true(pidfd >= 0);
	assert_int_equal(fd_pidfd_send_signal(pidfd, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(fd_pidfd_send_signal(pidfd, SIGKILL), -ESRCH);
}

static void sees_pages_come_and_go_in_pagemap(void **state)
{
	_cleanup_close_ int fd = pagemap_open(0);
	_cleanup_close_ int pidfd = fd_pidfd_open(getpid());
	size_t size = 4 * PAGE_BYTES;
	uint8_t *pages =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t entries[4];

	assert_true(fd >= 0 && pidfd >= 0 && pages != MAP_FAILED);
	assert_int_equal(madvise(pages, size, MADV_NOHUGEPAGE), 0);
	pages[PAGE_BYTES] = 1;
	assert_int_equal(pagemap_read(fd, (uintptr_t)pages, 4, entries), 0);
	assert_false(entries[0] & PAGEMAP_PRESENT);
	assert_true(entries[1] & PAGEMAP_PRESENT);
	assert_false(entries[1] & (PAGEMAP_FILE | PAGEMAP_SWAPPED | PAGEMAP_UFFD_WP));
	assert_false(entries[2] & PAGEMAP_PRESENT);
	assert_int_equal(fd_process_madvise(pidfd, (uintptr_t)pages, size, MADV_COLD), size);
	assert_int_equal(fd_process_madvise(pidfd, (uintptr_t)pages + 1, size, MADV_COLD), -EINVAL);
	assert_int_equal(munmap(pages, size), 0);
	assert_int_equal(pagemap_read(fd, UINT64_C(1) << 56, 1, entries), -EIO);
}

static const char rollup_text[] = "55d0a000-7ffd9000 ---p 00000000 00:00 0     [rollup]\n"
				  "Rss:                1100 kB\n"
				  "Pss:                 900 kB\n"
				  "Pss_Dirty:            77 kB\n"
				  "Pss_Anon:            500 kB\n"
				  "Pss_File:            300 kB\n"
				  "Pss_Shmem:           100 kB\n"
				  "SomethingNew:          1 kB\n"
				  "Anonymous:           510 kB\n"
				  "AnonHugePages:      2048 kB\n"
				  "Swap:                 12 kB\n"
				  "SwapPss:              11 kB\n";

static void reads_each_figure_of_smaps_rollup(void **state)
{
	struct smaps_rollup s;

	assert_int_equal(procfs_parse_smaps_rollup(rollup_text, &s), 0);
	assert_int_equal(s.rss_bytes, 1100 * KIB);
	assert_int_equal(s.pss_bytes, 900 * KIB);
	assert_int_equal(s.pss_anon_bytes, 500 * KIB);
	assert_int_equal(s.pss_file_bytes, 300 * KIB);
	assert_int_equal(s.pss_shmem_bytes, 100 * KIB);
	assert_int_equal(s.anonymous_bytes, 510 * KIB);
	assert_int_equal(s.anon_huge_bytes, 2 * MIB);
	assert_int_equal(s.swap_bytes, 12 * KIB);
	assert_int_equal(s.swap_pss_bytes, 11 * KIB);
}

static void takes_no_missing_figure_for_zero(void **state)
{
	/* the text up to each of its lines, and with the last one spoilt */
	for (const char *end = rollup_text; (end = strchr(end, '\n')) && end[1]; end++) {
		_cleanup_free_ char *cut = strndup(rollup_text, (size_t)(end + 1 - rollup_text));
		struct smaps_rollup s = {.rss_bytes = 7};

		assert_int_equal(procfs_parse_smaps_rollup(cut, &s), -EPROTO);
		assert_int_equal(s.rss_bytes, 7);
	}
	assert_int_equal(procfs_parse_smaps_rollup("", &(struct smaps_rollup){0}), -EPROTO);
	assert_int_equal(
		procfs_parse_smaps_rollup("Pss: x kB\n", &(struct smaps_rollup){0}), -EPROTO);
}

static void reads_stat_behind_any_command_name(void **state)
{
	static const char text[] = "12 (a) R (b) 9) S 1 2 3 4 5 6 70 71 80 81 250 50 1 1 20 0 1";
	struct proc_stat s;

	assert_int_equal(procfs_parse_stat(text, 100, &s), 0);
	assert_int_equal(s.minor_faults, 70);
	assert_int_equal(s.major_faults, 80);
	assert_int_equal(s.cpu_us, 3000000);
	assert_int_equal(procfs_parse_stat("12 (a) S 1 2 3", 100, &s), -EPROTO);
	assert_int_equal(procfs_parse_stat("12 a S", 100, &s), -EPROTO);
	assert_int_equal(procfs_parse_stat("", 100, &s), -EPROTO);
}

static void reads_swaps_and_mm_stat(void **state)
{
	static const char text[] =
		"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
		"/dev/zram0                              partition\t1048572\t\t512\t\t100\n"
		"/swap\\040file                          file\t\t4\t\t0\t\t-2\n";
	_cleanup_free_ struct swap_device *devices = NULL;
	struct swap_device zram = {0};
	size_t n;

	assert_int_equal(procfs_parse_swaps(text, &devices, &n), 0);
	assert_int_equal(n, 2);
	assert_string_equal(devices[0].path, "/dev/zram0");
	assert_int_equal(devices[0].size_bytes, 1048572 * KIB);
	assert_int_equal(devices[0].used_bytes, 512 * KIB);
	assert_int_equal(devices[0].priority, 100);
	assert_int_equal(devices[1].priority, -2);
	free(TAKE_PTR(devices));
	assert_int_equal(procfs_parse_swaps("Filename Type Size Used Priority\n", &devices, &n), 0);
	assert_int_equal(n, 0);

	assert_int_equal(procfs_parse_mm_stat(" 8192 4000 12288 0 12288 1 0 0 0\n", &zram), 0);
	assert_true(zram.is_zram);
	assert_int_equal(zram.zram_original_bytes, 8192);
	assert_int_equal(zram.zram_compressed_bytes, 4000);
	assert_int_equal(zram.zram_occupied_bytes, 12288);
	assert_int_equal(procfs_parse_mm_stat("8192 4000", &zram), -EPROTO);
}

static void reads_this_process_and_host(void **state)
{
	struct smaps_rollup s;
	struct proc_stat stat;
	uint64_t page_tables, total, available;
	_cleanup_free_ struct swap_device *devices = NULL;
	size_t n;

	assert_int_equal(procfs_read_smaps_rollup(0, &s), 0);
	assert_true(s.rss_bytes > 0 && s.pss_bytes <= s.rss_bytes);
	assert_int_equal(procfs_read_smaps_rollup(getpid(), &s), 0);
	assert_int_equal(procfs_read_page_table_bytes(0, &page_tables), 0);
	assert_true(page_tables > 0);
	assert_int_equal(procfs_read_stat(0, &stat), 0);
	assert_true(stat.minor_faults > 0);
	assert_int_equal(procfs_read_meminfo(&total, &available), 0);
	assert_true(available <= total && total > 64 * MIB);
	assert_int_equal(procfs_read_swaps(&devices, &n), 0);
}

static void says_that_a_process_is_gone(void **state)
{
	pid_t pid = start_child();
	struct smaps_rollup s;
	struct proc_stat stat;
	uint64_t bytes;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
	/* a zombie: there, but without memory */
	assert_int_equal(procfs_read_page_table_bytes(pid, &bytes), -ESRCH);
	assert_int_equal(procfs_read_smaps_rollup(pid, &s), -ESRCH);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(procfs_read_stat(pid, &stat), -ENOENT);
	assert_int_equal(procfs_read_smaps_rollup(pid, &s), -ENOENT);
	assert_int_equal(pagemap_open(pid), -ENOENT);
}

static void counts_what_the_allocator_holds(void **state)
{
	struct alloc_stats before, after;
	_cleanup_free_ char *block = NULL;
	int r = alloc_stats_read(&before);

	if (r == -ENODATA) {
		print_message("# another allocator in this build\n");
		return;
	}
	assert_int_equal(r, 0);
	block = malloc(8 * MIB);
	assert_non_null(block);
	block[0] = 1;
	assert_int_equal(alloc_stats_read(&after), 0);
	assert_true(after.allocated_bytes >= before.allocated_bytes + 8 * MIB);
	assert_true(after.resident_bytes > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_files_up_to_the_bound),
		cmocka_unit_test(writes_only_files_that_are_there),
		cmocka_unit_test(tells_the_end_of_a_file),
		cmocka_unit_test(makes_parents_and_keeps_what_is_there),
		cmocka_unit_test(signals_a_process_by_pidfd),
		cmocka_unit_test(sees_pages_come_and_go_in_pagemap),
		cmocka_unit_test(reads_each_figure_of_smaps_rollup),
		cmocka_unit_test(takes_no_missing_figure_for_zero),
		cmocka_unit_test(reads_stat_behind_any_command_name),
		cmocka_unit_test(reads_swaps_and_mm_stat),
		cmocka_unit_test(reads_this_process_and_host),
		cmocka_unit_test(says_that_a_process_is_gone),
		cmocka_unit_test(counts_what_the_allocator_holds),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
