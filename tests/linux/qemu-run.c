/* See qemu-run.h. */
#include "tests/linux/qemu-run.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "memd/base/cleanup.h"
#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "tests/guest/service-run.h"

#define BOOT_MS	   240000 /* only a machine that hangs gets there */
#define ANSWER_MS  60000
#define DISK_BYTES (256 << 20)

static struct qemu_run *running;

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	if (running)
		qemu_run_show_console(running);
	exit(1);
}

static void end_at_exit(void)
{
	if (running)
		qemu_run_end(running);
}

static void find_kernel(char *ret, size_t size)
{
	FILE *f = popen(MEMD_FETCH_KERNEL, "r");
	bool found = f && fgets(ret, (int)size, f);

	if (!f || pclose(f) != 0 || !found)
		fail("there is no stock kernel: " MEMD_FETCH_KERNEL);
	ret[strcspn(ret, "\n")] = '\0';
}

static void make_initramfs(const struct qemu_run *q, const char *kernel)
{
	int directory = (int)(strrchr(kernel, '/') - kernel);
	char command[8 * PATH_MAX], agent[PATH_MAX];

	if (service_run_build_path("balloon-agent/balloon-agent", agent, sizeof(agent)) < 0)
		fail("there is no balloon-agent in this build");
	snprintf(command, sizeof(command), "%s %s 0 %s/initramfs %s %.*s/virtio*.ko",
		MEMD_MAKE_INITRAMFS, MEMD_AGENT_INIT, q->directory, agent, directory, kernel);
	if (system(command) != 0)
		fail("no initramfs: %s", command);
}

static void run_qemu(struct qemu_run *q, const char *kernel, unsigned memory_mib)
{
	char memory[16], initramfs[128], console[128], monitor[160], disk[160], agent[160],
		work[160];
	const char *const argv[] = {"qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m",
		memory, "-nodefaults", "-no-reboot", "-display", "none", "-kernel", kernel,
		"-initrd", initramfs, "-append", "console=ttyS0 panic=-1 quiet", "-serial", console,
		"-qmp", monitor, "-device", "virtio-balloon-pci", "-device", "virtio-serial-pci",
		"-chardev", agent, "-device", "virtserialport,chardev=agent,name=org.memd.agent.0",
		"-chardev", work, "-device", "virtserialport,chardev=work,name=org.memd.test.0",
		"-drive", disk, "-device", "virtio-blk-pci,drive=disk", NULL};

	snprintf(memory, sizeof(memory), "%uM", memory_mib);
	snprintf(initramfs, sizeof(initramfs), "%s/initramfs", q->directory);
	snprintf(console, sizeof(console), "file:%s/console", q->directory);
	snprintf(monitor, sizeof(monitor), "unix:%s/monitor,server=on,wait=off", q->directory);
	snprintf(agent, sizeof(agent), "socket,id=agent,path=%s/agent,server=on,wait=off",
		q->directory);
	snprintf(
		work, sizeof(work), "socket,id=work,path=%s/work,server=on,wait=off", q->directory);
	snprintf(disk, sizeof(disk), "file=%s/disk,format=raw,if=none,id=disk", q->directory);
	q->pid = fork();
	if (q->pid == 0) {
		/* execvp does not write to them */
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
}

static int connect_to(const struct qemu_run *q, const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	uint64_t end_us = clock_monotonic_us() + BOOT_MS * US_PER_MS;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", q->directory, name);
	for (;;) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
			return fd;
		close(fd);
		if (waitpid(q->pid, NULL, WNOHANG) != 0 || clock_monotonic_us() > end_us)
			fail("QEMU did not come up");
		clock_sleep_us(20 * US_PER_MS);
	}
}

/* A line without its end. False: not within the time. */
static bool read_line(int fd, char *ret, size_t size, int timeout_ms)
{
	size_t n = 0;
	char c;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};

		if (poll(&p, 1, timeout_ms) <= 0 || read(fd, &c, 1) != 1)
			return false;
		if (c == '\n')
			break;
		if (c != '\r' && n + 1 < size)
			ret[n++] = c;
	}
	ret[n] = '\0';
	return true;
}

/* The line that answers; what QEMU says unasked is passed over. */
static void ask_monitor(struct qemu_run *q, const char *command, char *ret, size_t size)
{
	if (fd_write_full(q->monitor_fd, command, strlen(command)) < 0)
		fail("the monitor is gone");
	do {
		if (!read_line(q->monitor_fd, ret, size, ANSWER_MS))
			fail("the monitor does not answer %s", command);
	} while (!strstr(ret, "\"return\"") && !strstr(ret, "\"error\""));
	if (strstr(ret, "\"error\""))
		fail("%s: %s", command, ret);
}

void qemu_run_start(struct qemu_run *q, unsigned memory_mib)
{
	char kernel[PATH_MAX], line[1024], path[128];
	_cleanup_close_ int disk = -1;

	*q = (struct qemu_run){.agent_fd = -1, .work_fd = -1, .monitor_fd = -1};
	snprintf(q->directory, sizeof(q->directory), "/tmp/memd-qemu-XXXXXX");
	if (!mkdtemp(q->directory))
		fail("cannot make a directory");
	if (!running)
		atexit(end_at_exit);
	running = q;
	find_kernel(kernel, sizeof(kernel));
	make_initramfs(q, kernel);
	snprintf(path, sizeof(path), "%s/disk", q->directory);
	disk = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (disk < 0 || ftruncate(disk, DISK_BYTES) < 0)
		fail("no disk");
	run_qemu(q, kernel, memory_mib);
	q->monitor_fd = connect_to(q, "monitor");
	q->work_fd = connect_to(q, "work");
	q->agent_fd = connect_to(q, "agent");
	ask_monitor(q, "{\"execute\": \"qmp_capabilities\"}\n", line, sizeof(line));
	if (!read_line(q->work_fd, line, sizeof(line), BOOT_MS) || strcmp(line, "ready") != 0)
		fail("the guest's init is not ready");
}

void qemu_run_end(struct qemu_run *q)
{
	char command[128];

	running = NULL;
	cleanup_closep(&q->agent_fd);
	cleanup_closep(&q->work_fd);
	cleanup_closep(&q->monitor_fd);
	if (q->pid > 0) {
		kill(q->pid, SIGKILL);
		waitpid(q->pid, NULL, 0);
	}
	snprintf(command, sizeof(command), "rm -rf '%s'", q->directory);
	if (q->directory[0] && system(command) != 0)
		printf("# %s stays behind\n", q->directory);
	*q = (struct qemu_run){.agent_fd = -1, .work_fd = -1, .monitor_fd = -1};
}

void qemu_run_command(struct qemu_run *q, const char *line)
{
	char text[128];
	int n = snprintf(text, sizeof(text), "%s\n", line);

	if (fd_write_full(q->work_fd, text, (size_t)n) < 0)
		fail("the guest's init is gone");
}

bool qemu_run_answered(struct qemu_run *q)
{
	struct pollfd p = {.fd = q->work_fd, .events = POLLIN};
	char line[128];

	if (poll(&p, 1, 0) <= 0)
		return false;
	if (!read_line(q->work_fd, line, sizeof(line), ANSWER_MS) || strcmp(line, "ok") != 0)
		fail("the guest's init says: %s", line);
	return true;
}

void qemu_run_set_balloon(struct qemu_run *q, uint64_t guest_bytes)
{
	char command[128], answer[1024];

	snprintf(command, sizeof(command),
		"{\"execute\": \"balloon\", \"arguments\": {\"value\": %" PRIu64 "}}\n",
		guest_bytes);
	ask_monitor(q, command, answer, sizeof(answer));
}

uint64_t qemu_run_balloon(struct qemu_run *q)
{
	char answer[1024], *at;

	ask_monitor(q, "{\"execute\": \"query-balloon\"}\n", answer, sizeof(answer));
	at = strstr(answer, "\"actual\":");
	if (!at)
		fail("query-balloon: %s", answer);
	return strtoull(at + strlen("\"actual\":"), NULL, 10);
}

void qemu_run_show_console(const struct qemu_run *q)
{
	_cleanup_free_ char *text = NULL;
	char path[128], *save = NULL;

	snprintf(path, sizeof(path), "%s/console", q->directory);
	if (fd_read_file_at(AT_FDCWD, path, 4 << 20, &text, NULL) < 0)
		return;
	for (char *line = strtok_r(text, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save))
		printf("# %s\n", line);
}
