/*
 * init of a guest with a stock kernel and balloon-agent, statically linked: loads the virtio
 * drivers, starts the agent, and does what the host's test asks for over the port org.memd.test.0,
 * a line a command, answered by "ok" or what is wrong:
 *
 *   fill MIB    takes and writes that much memory, on top of what it has
 *   free        gives all of it back
 *   cache MIB   reads that much of the disk, so that the kernel keeps it
 *   oom         has the kernel kill a process for want of memory
 *   kill        kills the agent; agent: starts it
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB	  (1ul << 20)
#define FILLS_MAX 64
#define PORT_NAME "org.memd.test.0"

/* In the order in which they need each other. */
static const char *const modules[] = {
	"virtio_ring",
	"virtio",
	"virtio_pci_modern_dev",
	"virtio_pci_legacy_dev",
	"virtio_pci",
	"virtio_console",
	"virtio_balloon",
	"virtio_blk",
};
static void *fills[FILLS_MAX];
static size_t fill_bytes[FILLS_MAX];
static unsigned n_fills;
static pid_t agent;

static void die(const char *what)
{
	fprintf(stderr, "init: %s: %s\n", what, strerror(errno));
	sync();
	reboot(RB_POWER_OFF);
	_exit(1);
}

static void mount_all(void)
{
	static const struct {
		const char *type, *at;
	} list[] = {{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"},
		{"cgroup2", "/sys/fs/cgroup"}};

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		(void)mkdir(list[i].at, 0755);
		if (mount(list[i].type, list[i].at, list[i].type, 0, NULL) < 0 && errno != EBUSY)
			die(list[i].at);
	}
}

static void load_modules(void)
{
	for (size_t i = 0; i < sizeof(modules) / sizeof(modules[0]); i++) {
		char path[64];
		int fd;

		snprintf(path, sizeof(path), "/%s.ko", modules[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0)
			die(path);
		close(fd);
	}
}

static void start_agent(void)
{
	agent = fork();
	if (agent == 0) {
		execl("/balloon-agent", "balloon-agent", NULL);
		die("balloon-agent");
	}
}

/* The port of that name, when the kernel has found it. */
static int open_port(void)
{
	for (unsigned i = 0; i < 600; i++) {
		DIR *ports = opendir("/sys/class/virtio-ports");
		struct dirent *entry;

		while (ports && (entry = readdir(ports))) {
			char path[300], name[64] = "";
			FILE *f;

			snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name",
				entry->d_name);
			f = entry->d_name[0] == '.' ? NULL : fopen(path, "re");
			if (!f)
				continue;
			if (fscanf(f, "%63s", name) == 1 && strcmp(name, PORT_NAME) == 0) {
				fclose(f);
				snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
				closedir(ports);
				return open(path, O_RDWR | O_CLOEXEC);
			}
			fclose(f);
		}
		if (ports)
			closedir(ports);
		usleep(100000);
	}
	return -1;
}

static const char *fill(size_t mib)
{
	unsigned char *at = mmap(NULL, mib * MIB, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED || n_fills == FILLS_MAX)
		return "no room";
	for (size_t i = 0; i < mib * MIB; i += 4096)
		at[i] = 1;
	fills[n_fills] = at;
	fill_bytes[n_fills++] = mib * MIB;
	return "ok";
}

static const char *free_all(void)
{
	while (n_fills > 0) {
		n_fills--;
		munmap(fills[n_fills], fill_bytes[n_fills]);
	}
	return "ok";
}

static const char *cache(size_t mib)
{
	static char buffer[65536];
	int fd = open("/dev/vda", O_RDONLY | O_CLOEXEC);

	for (size_t i = 0; fd >= 0 && i < mib * MIB; i += sizeof(buffer))
		if (read(fd, buffer, sizeof(buffer)) != (ssize_t)sizeof(buffer))
			return "short disk";
	if (fd < 0)
		return "no disk";
	/* stays open: the last close of a block device drops what is cached of it */
	return "ok";
}

static const char *oom(void)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

		if (fd < 0 || write(fd, "1000", 4) != 4)
			_exit(1);
		/* FILLS_MAX of these are more than any guest here has, with its balloon or without */
		for (;;)
			(void)fill(64);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? "ok" : "it was not killed";
}

static const char *kill_agent(void)
{
	kill(agent, SIGKILL);
	waitpid(agent, NULL, 0);
	return "ok";
}

static const char *act(char *line)
{
	size_t mib = 0;
	char *blank = strchr(line, ' ');

	if (blank) {
		*blank = '\0';
		mib = strtoul(blank + 1, NULL, 10);
	}
	if (strcmp(line, "fill") == 0)
		return fill(mib);
	if (strcmp(line, "free") == 0)
		return free_all();
	if (strcmp(line, "cache") == 0)
		return cache(mib);
	if (strcmp(line, "oom") == 0)
		return oom();
	if (strcmp(line, "kill") == 0)
		return kill_agent();
	if (strcmp(line, "agent") == 0) {
		start_agent();
		return "ok";
	}
	return "what?";
}

int main(void)
{
	FILE *port;
	char line[128];
	int fd;

	mount_all();
	load_modules();
	start_agent();
	fd = open_port();
	if (fd < 0)
		die(PORT_NAME);
	port = fdopen(fd, "r+e");
	if (!port)
		die("fdopen");
	setvbuf(port, NULL, _IONBF, 0);
	dprintf(fd, "ready\n");
	for (;;) {
		if (!fgets(line, sizeof(line), port)) {
			clearerr(port); /* nobody is at the other end now */
			usleep(100000);
			continue;
		}
		line[strcspn(line, "\n")] = '\0';
		dprintf(fd, "%s\n", act(line));
	}
}
