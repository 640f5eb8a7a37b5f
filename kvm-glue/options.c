/* Arguments of memd-vmm (options.h): checked here, so that the rest may rely on them. */
#include "kvm-glue/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "kvm-glue/virtio-blk.h"
#include "kvm-glue/virtio-net.h"
#include "kvm-glue/virtio-rng.h"
#include "kvm-glue/virtio-vsock.h"
#include "kvm-glue/x86-features.h"
#include "memd/base/cleanup.h"
#include "memd/base/units.h"
#include "memd/base/vmm-proto.h"

#define CONSOLE_MAX_DEFAULT (4 * MIB)
#define CONSOLE_MAX_MIN	    (4 * KIB)

enum option_code {
	OPTION_NAME = 256,
	OPTION_MEMORY,
	OPTION_VCPUS,
	OPTION_KERNEL,
	OPTION_BOOT,
	OPTION_INITRD,
	OPTION_CMDLINE,
	OPTION_MEMORY_LOCKED,
	OPTION_CPU_FEATURES,
	OPTION_SNAPSHOT,
	OPTION_TEMPLATE_FD,
	OPTION_CONSOLE,
	OPTION_CONSOLE_MAX,
	OPTION_DISK,
	OPTION_NET,
	OPTION_RNG,
	OPTION_VSOCK,
	OPTION_LISTEN_FD,
	OPTION_SOCKET,
	OPTION_ERROR_FD,
	OPTION_HELP,
	OPTION_VERSION,
};

static const struct option long_options[] = {
	{"name", required_argument, NULL, OPTION_NAME},
	{"memory", required_argument, NULL, OPTION_MEMORY},
	{"vcpus", required_argument, NULL, OPTION_VCPUS},
	{"kernel", required_argument, NULL, OPTION_KERNEL},
	{"boot", required_argument, NULL, OPTION_BOOT},
	{"initrd", required_argument, NULL, OPTION_INITRD},
	{"cmdline", required_argument, NULL, OPTION_CMDLINE},
	{"memory-locked", no_argument, NULL, OPTION_MEMORY_LOCKED},
	{"cpu-features", required_argument, NULL, OPTION_CPU_FEATURES},
	{"snapshot", required_argument, NULL, OPTION_SNAPSHOT},
	{"template-fd", required_argument, NULL, OPTION_TEMPLATE_FD},
	{"console", required_argument, NULL, OPTION_CONSOLE},
	{"console-max", required_argument, NULL, OPTION_CONSOLE_MAX},
	{"disk", required_argument, NULL, OPTION_DISK},
	{"net", required_argument, NULL, OPTION_NET},
	{"rng", no_argument, NULL, OPTION_RNG},
	{"vsock", required_argument, NULL, OPTION_VSOCK},
	{"listen-fd", required_argument, NULL, OPTION_LISTEN_FD},
	{"socket", required_argument, NULL, OPTION_SOCKET},
	{"error-fd", required_argument, NULL, OPTION_ERROR_FD},
	{"help", no_argument, NULL, OPTION_HELP},
	{"version", no_argument, NULL, OPTION_VERSION},
	{0},
};

static const char usage[] =
	"memd-vmm --name NAME --memory BYTES --kernel PATH --console -|FILE|pty:LINK|unix:PATH\n"
	"         [--vcpus N] [--boot auto|linux|pvh] [--initrd PATH] [--cmdline TEXT]\n"
	"         [--cpu-features \"-NAME +NAME...\"] [--console-max BYTES] [--rng]\n"
	"         [--vsock CID,PATH]\n"
	"         [--memory-locked]\n"
	"         [--net user[,mac=M][,tcp=HOSTPORT:GUESTPORT]...]...\n"
	"         [--net tap:NAME[,mac=M][,queues=N]]...\n"
	"         [--disk PATH[,ro][,direct][,queues=N][,serial=TEXT]]...\n"
	"         [--listen-fd N | --socket PATH] [--error-fd N]\n"
	"memd-vmm --name NAME --snapshot DIRECTORY --console FILE|- [--template-fd N] ...\n"
	"\n"
	"Runs one KVM guest: boots a kernel, or goes on from a snapshot. Sizes may have suffixes "
	"(256M). memd starts this program;\n"
	"without --listen-fd and --socket it just runs the guest.\n";

static int parse_fd(const char *text, int *ret, struct error *e)
{
	uint64_t fd;
	int r = units_parse_u64(text, INT_MAX, &fd, e);

	if (r < 0)
		return r;
	*ret = (int)fd;
	return 0;
}

static int parse_memory(const char *text, uint64_t *ret_bytes, struct error *e)
{
	uint64_t bytes;
	int r = units_parse_bytes(text, &bytes, e);

	if (r < 0)
		return r;
	if (bytes < OPTIONS_MEMORY_MIN_BYTES || bytes > OPTIONS_MEMORY_MAX_BYTES)
		return error_set(e, -ERANGE, "%s is not between %s and %s", text,
			UNITS_BYTES(OPTIONS_MEMORY_MIN_BYTES),
			UNITS_BYTES(OPTIONS_MEMORY_MAX_BYTES));
	if (bytes % CHUNK_BYTES != 0)
		return error_set(e, -EINVAL, "%s is not a multiple of 2 MiB", text);
	*ret_bytes = bytes;
	return 0;
}

static int parse_boot(const char *text, enum boot_protocol *ret, struct error *e)
{
	static const struct {
		const char *name;
		enum boot_protocol protocol;
	} names[] = {
		{"auto", BOOT_AUTO},
		{"linux", BOOT_LINUX64},
		{"pvh", BOOT_PVH},
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(text, names[i].name) == 0) {
			*ret = names[i].protocol;
			return 0;
		}
	}
	return error_set(e, -EINVAL, "%s is none of auto, linux, pvh", text);
}

static int parse_vcpus(const char *text, unsigned *ret, struct error *e)
{
	uint64_t n;
	int r = units_parse_u64(text, OPTIONS_VCPUS_MAX, &n, e);

	if (r == 0 && n == 0)
		r = error_set(e, -ERANGE, "a guest has at least one vCPU");
	if (r < 0)
		return r;
	*ret = (unsigned)n;
	return 0;
}

static int parse_console_max(const char *text, uint64_t *ret_bytes, struct error *e)
{
	uint64_t bytes;
	int r = units_parse_bytes(text, &bytes, e);

	if (r < 0)
		return r;
	if (bytes < CONSOLE_MAX_MIN)
		return error_set(
			e, -ERANGE, "%s is less than %s", text, UNITS_BYTES(CONSOLE_MAX_MIN));
	*ret_bytes = bytes;
	return 0;
}

static int parse_name(const char *text, const char **ret, struct error *e)
{
	if (text[0] == '\0' || strlen(text) >= VMM_NAME_MAX)
		return error_set(e, -EINVAL, "a name has 1 to %d characters", VMM_NAME_MAX - 1);
	*ret = text;
	return 0;
}

static int add_device(
	struct options *o, const struct device_kind *kind, const char *spec, struct error *e)
{
	if (o->n_devices == DEVICES_MAX)
		return error_set(e, -E2BIG, "a guest has at most %d devices", DEVICES_MAX);
	o->devices[o->n_devices++] = (struct device_request){.kind = kind, .spec = spec};
	return 0;
}

static int parse_one(enum option_code option, const char *value, struct options *o, struct error *e)
{
	switch (option) {
	case OPTION_NAME:
		return parse_name(value, &o->name, e);
	case OPTION_MEMORY:
		return parse_memory(value, &o->memory_bytes, e);
	case OPTION_VCPUS:
		return parse_vcpus(value, &o->n_vcpus, e);
	case OPTION_KERNEL:
		o->kernel_path = value;
		return 0;
	case OPTION_BOOT:
		return parse_boot(value, &o->boot, e);
	case OPTION_INITRD:
		o->initrd_path = value;
		return 0;
	case OPTION_CMDLINE:
		o->cmdline = value;
		return 0;
	case OPTION_MEMORY_LOCKED:
		o->memory_locked = true;
		return 0;
	case OPTION_CPU_FEATURES:
		o->cpu_features = value;
		return x86_features_check(value, e);
	case OPTION_SNAPSHOT:
		o->snapshot_path = value;
		return 0;
	case OPTION_TEMPLATE_FD:
		return parse_fd(value, &o->template_fd, e);
	case OPTION_CONSOLE:
		o->console_path = value;
		return 0;
	case OPTION_CONSOLE_MAX:
		return parse_console_max(value, &o->console_max_bytes, e);
	case OPTION_DISK:
		return add_device(o, &virtio_blk_kind, value, e);
	case OPTION_NET:
		return add_device(o, &virtio_net_kind, value, e);
	case OPTION_VSOCK:
		return add_device(o, &virtio_vsock_kind, value, e);
	case OPTION_RNG:
		return add_device(o, &virtio_rng_kind, value, e);
	case OPTION_LISTEN_FD:
		return parse_fd(value, &o->listen_fd, e);
	case OPTION_SOCKET:
		o->socket_path = value;
		return 0;
	case OPTION_ERROR_FD:
		return parse_fd(value, &o->error_fd, e);
	case OPTION_HELP:
		fputs(usage, stdout);
		return OPTIONS_HELP;
	case OPTION_VERSION:
		puts("memd-vmm " MEMD_VERSION);
		return OPTIONS_HELP;
	}
	return -EINVAL;
}

static int check_complete(const struct options *o, struct error *e)
{
	const struct {
		const char *option;
		bool given;
	} required[] = {
		{"--name", o->name},
		{"--memory", o->memory_bytes > 0 || o->snapshot_path},
		{"--kernel", o->kernel_path || o->snapshot_path},
		{"--console", o->console_path},
	};

	for (size_t i = 0; i < ARRAY_SIZE(required); i++)
		if (!required[i].given)
			return error_set(
				e, -EINVAL, "%s is missing (see --help)", required[i].option);
	if (o->snapshot_path && o->kernel_path)
		return error_set(e, -EINVAL, "--kernel and --snapshot exclude each other");
	if (o->snapshot_path && o->memory_locked)
		return error_set(e, -EINVAL,
			"--memory-locked and --snapshot exclude each other: a clone shares its "
			"memory "
			"until it writes");
	if (o->snapshot_path && o->cpu_features[0])
		return error_set(e, -EINVAL,
			"--cpu-features and --snapshot exclude each other: the CPUs are the "
			"snapshot's");
	if (o->template_fd >= 0 && !o->snapshot_path)
		return error_set(e, -EINVAL, "--template-fd needs --snapshot");
	if (o->listen_fd >= 0 && o->socket_path)
		return error_set(e, -EINVAL, "--listen-fd and --socket exclude each other");
	return 0;
}

int options_parse(int argc, char *argv[], struct options *ret, struct error *e)
{
	int option, index = 0, r;

	*ret = (struct options){
		.cmdline = "",
		.cpu_features = "",
		.console_max_bytes = CONSOLE_MAX_DEFAULT,
		.listen_fd = -1,
		.error_fd = -1,
		.template_fd = -1,
	};
	opterr = 0;
	optind = 1;
	while ((option = getopt_long(argc, argv, "+", long_options, &index)) != -1) {
		if (option == '?' || option == ':')
			return error_set(e, -EINVAL,
				"%s is not an option, or lacks its value (see --help)",
				argv[optind - 1]);
		r = parse_one((enum option_code)option, optarg, ret, e);
		if (r < 0)
			error_prefix(e, "--%s", long_options[index].name);
		if (r != 0)
			return r;
	}
	if (optind < argc)
		return error_set(e, -EINVAL, "%s is no option (see --help)", argv[optind]);
	if (ret->n_vcpus == 0 && !ret->snapshot_path)
		ret->n_vcpus = 1;
	return check_complete(ret, e);
}
