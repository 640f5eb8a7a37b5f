/* One function for each thing that memd needs of its host. Each says what it found and what to do. */
#include "memd/memctl/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "memd/base/cgroup.h"
#include "memd/base/cleanup.h"
#include "memd/base/fd.h"
#include "memd/base/procfs.h"
#include "memd/base/units.h"

/* Sharing single pages takes two mappings each: with the kernel's default it stops at 30,000 pages. */
#define MAP_COUNT_WANTED  UINT64_C(1048576)
#define MAP_COUNT_DEFAULT UINT64_C(65530)
#define KERNEL_WANTED                                                                              \
	(5 * 1000 + 19) /* write protection of anonymous and shmem memory by userfaultfd */
#define FILE_MAX_BYTES 65536

static void say(struct doctor_finding *f, enum doctor_status status, const char *advice,
	const char *format, ...) __attribute__((format(printf, 4, 5)));

static void say(struct doctor_finding *f, enum doctor_status status, const char *advice,
	const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(f->found, sizeof(f->found), format, arguments);
	va_end(arguments);
	f->status = status;
	snprintf(f->advice, sizeof(f->advice), "%s", advice);
}

/* The first line of a file below the root, to be freed; NULL when it cannot be read. */
static char *read_line(int root_fd, const char *path)
{
	char *text = NULL;

	if (fd_read_file_at(root_fd, path, FILE_MAX_BYTES, &text, NULL) < 0)
		return NULL;
	text[strcspn(text, "\n")] = '\0';
	return text;
}

static bool read_number(int root_fd, const char *path, uint64_t *ret)
{
	_cleanup_free_ char *line = read_line(root_fd, path);

	return line && units_parse_u64(line, UINT64_MAX, ret, NULL) == 0;
}

static void check_kvm(int root_fd, struct doctor_finding *f)
{
	_cleanup_close_ int fd = openat(root_fd, "dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		say(f, DOCTOR_OK, "", "/dev/kvm can be opened");
	else if (errno == ENOENT)
		say(f, DOCTOR_PROBLEM,
			"enable virtualization in the firmware, then: modprobe kvm_intel or "
			"kvm_amd; in a "
			"virtual machine its host has to allow nesting",
			"there is no /dev/kvm: no guest can start");
	else
		say(f, DOCTOR_PROBLEM,
			"guests are started by memd, as root; for a look as yourself: usermod -aG "
			"kvm USER",
			"/dev/kvm is there and cannot be opened: %s", strerror(errno));
}

static void check_kernel(int root_fd, struct doctor_finding *f)
{
	struct utsname name;
	unsigned major = 0, minor = 0;

	if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
		say(f, DOCTOR_NOTE, "", "cannot tell which kernel this is");
	else if (major * 1000 + minor < KERNEL_WANTED)
		say(f, DOCTOR_PROBLEM, "install Linux 5.19 or later; Debian 12 has 6.1",
			"Linux %s has no write protection by userfaultfd: nothing is shared",
			name.release);
	else
		say(f, DOCTOR_OK, "", "Linux %s", name.release);
}

static void check_userfaultfd(int root_fd, struct doctor_finding *f)
{
	struct uffdio_api api = {.api = UFFD_API};
	_cleanup_close_ int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0)
		say(f, errno == EPERM ? DOCTOR_NOTE : DOCTOR_PROBLEM,
			errno == EPERM ? "memd runs as root and may; to be sure, run this as root"
				       : "use a kernel with CONFIG_USERFAULTFD",
			"userfaultfd: %s", strerror(errno));
	else if (ioctl(fd, UFFDIO_API, &api) < 0 ||
		 !(api.features & UFFD_FEATURE_PAGEFAULT_FLAG_WP))
		say(f, DOCTOR_PROBLEM, "use a kernel with HAVE_ARCH_USERFAULTFD_WP (x86-64)",
			"userfaultfd cannot write-protect: nothing is shared");
	else
		say(f, DOCTOR_OK, "", "userfaultfd write-protects");
}

static void check_map_count(int root_fd, struct doctor_finding *f)
{
	uint64_t count;

	if (!read_number(root_fd, "proc/sys/vm/max_map_count", &count))
		say(f, DOCTOR_NOTE, "", "vm.max_map_count cannot be read");
	else if (count < MAP_COUNT_WANTED)
		say(f, DOCTOR_NOTE,
			"sysctl vm.max_map_count=1048576 (memd's package has a file for "
			"/usr/lib/sysctl.d); guests that run keep their limit",
			"vm.max_map_count is %" PRIu64
			": sharing of scattered pages stops at about %" PRIu64 " pages a guest",
			count, count / 2);
	else
		say(f, DOCTOR_OK, "", "vm.max_map_count is %" PRIu64, count);
}

static void check_overcommit(int root_fd, struct doctor_finding *f)
{
	uint64_t mode;

	if (!read_number(root_fd, "proc/sys/vm/overcommit_memory", &mode))
		say(f, DOCTOR_NOTE, "", "vm.overcommit_memory cannot be read");
	else if (mode == 2)
		say(f, DOCTOR_PROBLEM, "sysctl vm.overcommit_memory=0",
			"vm.overcommit_memory is 2: the kernel refuses guests that add up to more "
			"than "
			"there is");
	else
		say(f, DOCTOR_OK, "", "vm.overcommit_memory is %" PRIu64, mode);
}

/* The word in brackets of a line such as "always [madvise] never". */
static const char *chosen(char *line)
{
	char *begin = line ? strchr(line, '[') : NULL, *end = begin ? strchr(begin, ']') : NULL;

	if (!end)
		return NULL;
	*end = '\0';
	return begin + 1;
}

static void check_huge_pages(int root_fd, struct doctor_finding *f)
{
	_cleanup_free_ char *enabled =
		read_line(root_fd, "sys/kernel/mm/transparent_hugepage/enabled");
	_cleanup_free_ char *defrag =
		read_line(root_fd, "sys/kernel/mm/transparent_hugepage/defrag");
	const char *mode = chosen(enabled), *effort = chosen(defrag);

	if (!mode)
		say(f, DOCTOR_OK, "", "no transparent huge pages");
	else if (effort && strcmp(effort, "always") == 0)
		say(f, DOCTOR_NOTE, "echo madvise >/sys/kernel/mm/transparent_hugepage/defrag",
			"transparent huge pages are %s, and whoever touches new memory waits for "
			"them to be "
			"made (defrag: always)",
			mode);
	else
		say(f, DOCTOR_OK, "", "transparent huge pages: %s, defrag: %s", mode,
			effort ? effort : "unknown");
}

static void check_ksm(int root_fd, struct doctor_finding *f)
{
	uint64_t run;

	if (!read_number(root_fd, "sys/kernel/mm/ksm/run", &run))
		say(f, DOCTOR_NOTE, "",
			"the kernel has no KSM: equal pages of QEMU guests are not shared");
	else
		say(f, DOCTOR_OK, "", "KSM is %s; memd's own guests do without",
			run == 1 ? "on" : "off");
}

static bool is_zram(const struct swap_device *d)
{
	return strstr(d->path, "/zram") != NULL;
}

static void check_swap(int root_fd, struct doctor_finding *f)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_free_ struct swap_device *devices = NULL;
	size_t n = 0, n_zram = 0;
	uint64_t size = 0;

	if (fd_read_file_at(root_fd, "proc/swaps", FILE_MAX_BYTES, &text, NULL) < 0 ||
		procfs_parse_swaps(text, &devices, &n) < 0) {
		say(f, DOCTOR_NOTE, "", "/proc/swaps cannot be read");
		return;
	}
	for (size_t i = 0; i < n; i++) {
		n_zram += is_zram(&devices[i]);
		size += devices[i].size_bytes;
	}
	if (n == 0)
		say(f, DOCTOR_PROBLEM, "memctl setup-zram, or add a swap device",
			"no swap: cold pages of guests stay in memory");
	else if (n_zram == 0)
		say(f, DOCTOR_NOTE,
			"memctl setup-zram: pages come back from it 10 to 100 times faster",
			"%zu swap devices with %s, none of them zram", n, UNITS_BYTES(size));
	else
		say(f, DOCTOR_OK, "", "%zu swap devices with %s, %zu of them zram", n,
			UNITS_BYTES(size), n_zram);
}

static void check_read_ahead(int root_fd, struct doctor_finding *f)
{
	uint64_t pages;

	if (!read_number(root_fd, "proc/sys/vm/page-cluster", &pages))
		say(f, DOCTOR_NOTE, "", "vm.page-cluster cannot be read");
	else if (pages > 0)
		say(f, DOCTOR_NOTE, "with zram only: sysctl vm.page-cluster=0",
			"each page that comes back from swap brings %d others along "
			"(vm.page-cluster)",
			(1 << (pages < 10 ? pages : 10)) - 1);
	else
		say(f, DOCTOR_OK, "", "swap reads no pages ahead");
}

static void check_cgroups(int root_fd, struct doctor_finding *f)
{
	char mount[256];

	switch (cgroup_detect(mount, sizeof(mount), NULL)) {
	case CGROUP_V2:
		say(f, DOCTOR_OK, "",
			"memory cgroups v2 at %s: each guest is throttled at its own target",
			mount);
		break;
	case CGROUP_V1:
		say(f, DOCTOR_NOTE, "boot with systemd.unified_cgroup_hierarchy=1",
			"memory cgroups v1 at %s: they only count; a guest that grows fast is "
			"paused, where v2 would throttle it",
			mount);
		break;
	default:
		say(f, DOCTOR_NOTE, "boot with the memory controller (cgroup_enable=memory)",
			"no memory cgroups: a guest that grows faster than a tick is only paused");
	}
}

static void check_pressure(int root_fd, struct doctor_finding *f)
{
	if (faccessat(root_fd, "proc/pressure/memory", R_OK, 0) == 0)
		say(f, DOCTOR_OK, "", "the kernel measures how long tasks wait for memory (PSI)");
	else
		say(f, DOCTOR_NOTE, "boot with psi=1",
			"the kernel does not measure memory pressure (PSI)");
}

static void check_numa_balancing(int root_fd, struct doctor_finding *f)
{
	uint64_t on;

	if (!read_number(root_fd, "proc/sys/kernel/numa_balancing", &on) || on == 0)
		say(f, DOCTOR_OK, "", "no NUMA balancing");
	else
		say(f, DOCTOR_NOTE,
			"sysctl kernel.numa_balancing=0, and bind guests to nodes instead",
			"NUMA balancing unmaps guest pages to see who uses them");
}

static void check_rights(int root_fd, struct doctor_finding *f)
{
	if (faccessat(root_fd, "run/memd", F_OK, 0) < 0)
		say(f, DOCTOR_NOTE, "systemctl enable --now memd",
			"there is no /run/memd: memd has not run since the host booted");
	else if (faccessat(root_fd, "run/memd/metrics.sock", R_OK | W_OK, AT_EACCESS) < 0 &&
		 errno == EACCES)
		say(f, DOCTOR_NOTE, "usermod -aG memd USER, and log in again",
			"you are not in the group memd: you may look, and not change anything");
	else
		say(f, DOCTOR_OK, "", "/run/memd is there");
}

static const struct {
	const char *name;
	void (*check)(int root_fd, struct doctor_finding *f);
} checks[] = {
	{"kvm", check_kvm},
	{"kernel", check_kernel},
	{"userfaultfd", check_userfaultfd},
	{"map-count", check_map_count},
	{"overcommit", check_overcommit},
	{"swap", check_swap},
	{"swap-read-ahead", check_read_ahead},
	{"cgroups", check_cgroups},
	{"pressure", check_pressure},
	{"huge-pages", check_huge_pages},
	{"ksm", check_ksm},
	{"numa-balancing", check_numa_balancing},
	{"rights", check_rights},
};

size_t doctor_examine(int root_fd, struct doctor_finding *ret, size_t max)
{
	size_t n = ARRAY_SIZE(checks) < max ? ARRAY_SIZE(checks) : max;

	for (size_t i = 0; i < n; i++) {
		ret[i] = (struct doctor_finding){.name = checks[i].name};
		checks[i].check(root_fd, &ret[i]);
	}
	return n;
}
