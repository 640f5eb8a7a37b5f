/* The verbs that look at the host itself, or set it up: doctor, setup-zram. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/procfs.h"
#include "memd/base/units.h"
#include "memd/memctl/client.h"
#include "memd/memctl/doctor.h"
#include "memd/memctl/draw.h"

#define FINDINGS_MAX  32
/* Before disks, which the kernel gives negative priorities: memory first, disk when that is full. */
#define ZRAM_PRIORITY 100
#define ZRAM_CONTROL  "/sys/class/zram-control"
#define NOTE_PATH     "/run/memd-zram" /* which device is ours */

extern char **environ;

static const char *status_word(enum doctor_status status)
{
	static const char *const words[] = {
		[DOCTOR_OK] = "ok", [DOCTOR_NOTE] = "note", [DOCTOR_PROBLEM] = "problem"};

	return words[status];
}

static void print_findings(const struct doctor_finding *findings, size_t n)
{
	struct style style = stdout_style();

	for (size_t i = 0; i < n; i++) {
		const struct doctor_finding *f = &findings[i];

		draw_text(stdout, &style,
			f->status == DOCTOR_OK	   ? EMPHASIS_GOOD
			: f->status == DOCTOR_NOTE ? EMPHASIS_WARN
						   : EMPHASIS_BAD,
			status_word(f->status));
		printf("%*s%-16s %s\n", 9 - (int)strlen(status_word(f->status)), "", f->name,
			f->found);
		if (f->advice[0])
			printf("%26s-> %s\n", "", f->advice);
	}
}

static struct json_object *findings_to_json(const struct doctor_finding *findings, size_t n)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "name", json_object_new_string(findings[i].name));
		json_object_object_add(
			o, "status", json_object_new_string(status_word(findings[i].status)));
		json_object_object_add(o, "found", json_object_new_string(findings[i].found));
		json_object_object_add(o, "advice", json_object_new_string(findings[i].advice));
		json_object_array_add(list, o);
	}
	return list;
}

/* The last check is of memd itself: whether it answers, and what it says of its ledger. */
static void ask_memd(struct memctl *m, struct doctor_finding *f)
{
	_cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_json_ struct json_object *host = NULL;
	int r = client_connect(m);

	*f = (struct doctor_finding){.name = "memd"};
	if (r >= 0)
		r = client_properties(m, MEMD_PATH, MEMD_MANAGER, &e, &host);
	if (r < 0) {
		f->status = DOCTOR_PROBLEM;
		snprintf(f->found, sizeof(f->found), "memd does not answer on the bus %s: %s",
			m->bus_name, e.message ? e.message : strerror(-r));
		snprintf(f->advice, sizeof(f->advice), "systemctl status memd; journalctl -u memd");
		return;
	}
	snprintf(f->found, sizeof(f->found), "memd %s looks after %s guests, host state %s",
		figure_text(host, "version"), figure_text(host, "n_guests"),
		figure_text(host, "host_state"));
}

enum memctl_exit verb_doctor(struct memctl *m, int argc, char **argv)
{
	const char *root = argc > 0 ? argv[0] : "/";
	_cleanup_close_ int root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct doctor_finding findings[FINDINGS_MAX];
	size_t n, n_problems = 0;

	if (root_fd < 0)
		return memctl_fail(m, MEMCTL_USAGE, NULL, "%s: %s", root, strerror(errno));
	n = doctor_examine(root_fd, findings, FINDINGS_MAX - 1);
	ask_memd(m, &findings[n++]);
	for (size_t i = 0; i < n; i++)
		n_problems += findings[i].status == DOCTOR_PROBLEM;
	if (m->json) {
		_cleanup_json_ struct json_object *object = json_object_new_object();

		json_object_object_add(object, "checks", findings_to_json(findings, n));
		json_object_object_add(object, "problems", json_object_new_int((int)n_problems));
		memctl_print_json(object);
	} else {
		print_findings(findings, n);
		printf("\n%zu of %zu checks found a problem\n", n_problems, n);
	}
	return n_problems ? MEMCTL_REFUSED : MEMCTL_OK;
}

/* Runs a program and waits. Its exit code, or negative errno. */
static int run_program(char *const argv[])
{
	posix_spawn_file_actions_t actions;
	int status, r;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	r = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (r != 0)
		return -r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

static int write_device(unsigned number, const char *file, const char *text)
{
	char path[80];

	snprintf(path, sizeof(path), "/sys/block/zram%u/%s", number, file);
	return fd_write_file_at(AT_FDCWD, path, text);
}

static int remove_device(unsigned number)
{
	char text[32];
	int r;

	snprintf(text, sizeof(text), "/dev/zram%u", number);
	if (swapoff(text) < 0 && errno != EINVAL && errno != ENOENT)
		return -errno;
	r = write_device(number, "reset", "1");
	snprintf(text, sizeof(text), "%u", number);
	if (r == 0)
		(void)fd_write_file_at(AT_FDCWD, ZRAM_CONTROL "/hot_remove", text);
	return r;
}

/* A new device. Negative errno. */
static int add_device(unsigned *ret_number)
{
	char *const modprobe[] = {
		(char[]){"modprobe"}, (char[]){"zram"}, (char[]){"num_devices=0"}, NULL};
	_cleanup_free_ char *text = NULL;
	int r;

	if (access(ZRAM_CONTROL, F_OK) < 0)
		(void)run_program(modprobe);
	r = fd_read_file_at(
		AT_FDCWD, ZRAM_CONTROL "/hot_add", 16, &text, NULL); /* reading it adds one */
	if (r < 0)
		return r;
	return sscanf(text, "%u", ret_number) == 1 ? 0 : -EPROTO;
}

static int use_device(unsigned number, uint64_t bytes)
{
	char device[32], size[24], *const mkswap[] = {(char[]){"mkswap"}, device, NULL};
	int r;

	snprintf(device, sizeof(device), "/dev/zram%u", number);
	snprintf(size, sizeof(size), "%" PRIu64, bytes);
	(void)write_device(number, "comp_algorithm", "zstd"); /* else what the kernel thinks best */
	r = write_device(number, "disksize", size);
	if (r < 0)
		return r;
	/* The device node comes by way of udev, or of nobody (a container). */
	for (int i = 0; i < 100 && access(device, F_OK) < 0; i++)
		clock_sleep_us(50000);
	r = run_program(mkswap);
	if (r != 0)
		return r < 0 ? r : -EIO;
	if (swapon(device, SWAP_FLAG_PREFER | ZRAM_PRIORITY) < 0)
		return -errno;
	snprintf(size, sizeof(size), "%u\n", number);
	(void)unlink(NOTE_PATH);
	return fd_write_file_at(AT_FDCWD, NOTE_PATH, size);
}

/* {"zram": NUMBER, "size_bytes": N}, 0 when it is gone; or a sentence. */
static enum memctl_exit say_zram(const struct memctl *m, unsigned number, uint64_t bytes)
{
	_cleanup_json_ struct json_object *object = NULL;

	if (!m->json && bytes)
		printf("/dev/zram%u holds up to %s, compressed, until the host boots; "
		       "memd-zram.service "
		       "sets it up each time\n",
			number, UNITS_BYTES(bytes));
	else if (!m->json)
		printf("/dev/zram%u is gone\n", number);
	if (!m->json)
		return MEMCTL_OK;
	object = json_object_new_object();
	json_object_object_add(object, "zram", json_object_new_int((int)number));
	json_object_object_add(object, "size_bytes", json_object_new_int64((int64_t)bytes));
	memctl_print_json(object);
	return MEMCTL_OK;
}

static enum memctl_exit remove_zram(struct memctl *m)
{
	_cleanup_free_ char *text = NULL;
	unsigned number;
	int r = fd_read_file_at(AT_FDCWD, NOTE_PATH, 16, &text, NULL);

	if (r < 0 || sscanf(text, "%u", &number) != 1)
		return memctl_fail(
			m, MEMCTL_REFUSED, NULL, "there is no zram device of `memctl setup-zram`");
	r = remove_device(number);
	if (r < 0)
		return memctl_fail(m, MEMCTL_REFUSED, NULL, "cannot remove /dev/zram%u: %s", number,
			r == -ENOMEM ? "what it holds does not fit into memory" : strerror(-r));
	unlink(NOTE_PATH);
	return say_zram(m, number, 0);
}

enum memctl_exit verb_setup_zram(struct memctl *m, int argc, char **argv)
{
	uint64_t total, available, bytes;
	struct error e = {0};
	unsigned number;
	uint32_t bp;
	int r;

	if (m->options & OPTION_REMOVE)
		return remove_zram(m);
	if (access(NOTE_PATH, F_OK) == 0)
		return memctl_fail(m, MEMCTL_REFUSED, NULL,
			"it is there; `memctl setup-zram --remove` removes it");
	r = procfs_read_meminfo(&total, &available);
	bytes = total / 2;
	if (r == 0 && argc > 0)
		r = strchr(argv[0], '%') ? units_parse_percent(argv[0], &bp, &e)
					 : units_parse_bytes(argv[0], &bytes, &e);
	if (r == 0 && argc > 0 && strchr(argv[0], '%'))
		bytes = total / 10000 * bp;
	if (r < 0)
		return memctl_fail(
			m, MEMCTL_USAGE, NULL, "size: %s", e.text[0] ? e.text : strerror(-r));
	if (bytes < MIB || bytes > 8 * total)
		return memctl_fail(m, MEMCTL_USAGE, NULL,
			"%s is not between 1M and eight times the memory of this host",
			UNITS_BYTES(bytes));
	r = add_device(&number);
	if (r < 0)
		return memctl_fail(m, MEMCTL_REFUSED, NULL, "cannot add a zram device: %s%s",
			strerror(-r),
			r == -ENOENT		      ? "; the kernel has no zram"
			: r == -EACCES || r == -EPERM ? "; run as root"
						      : "");
	r = use_device(number, bytes);
	if (r < 0) {
		(void)remove_device(number);
		return memctl_fail(m, MEMCTL_REFUSED, NULL, "cannot swap to /dev/zram%u: %s",
			number, strerror(-r));
	}
	return say_zram(m, number, bytes);
}
