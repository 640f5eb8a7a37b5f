/*
 * memctl import. Each kind has a table: what a setting becomes, or why it becomes nothing. The
 * tables follow https://github.com/oVirt/mom (doc/mom.conf), ksmtuned.conf as RHEL and Proxmox have
 * it, and the manual page qm.conf(5).
 */
#include "memd/memctl/import.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "memd/base/cleanup.h"
#include "memd/base/fd.h"
#include "memd/base/text.h"
#include "memd/memctl/memctl.h"

/* How a value is written for memd; false: it cannot be, and the note says what to do. */
typedef bool (*convert_fn)(const char *value, FILE *out);

struct rule {
	const char *key;
	const char *section; /* of memd's file; NULL: a comment only */
	convert_fn convert; /* writes "Key=value"; NULL with section NULL */
	const char *note; /* why, or what else is to know; NULL: nothing */
};

struct setting {
	char *key;
	char *value;
	const struct rule *rule; /* NULL: unknown */
};

#define SETTINGS_MAX 256

/* A whole number and nothing else. */
static bool number(const char *value, uint64_t max, uint64_t *ret)
{
	char *end;

	if (value[0] < '0' || value[0] > '9')
		return false;
	errno = 0;
	*ret = strtoull(value, &end, 10);
	return errno == 0 && *end == '\0' && *ret <= max;
}

/* MOM's loop in seconds; memd's tick is 100 ms to 60 s. */
static bool to_tick(const char *value, FILE *out)
{
	uint64_t s;

	if (!number(value, 60, &s) || s == 0)
		return false;
	fprintf(out, "TickInterval=%" PRIu64 "s", s);
	return true;
}

static bool to_uri(const char *value, FILE *out)
{
	if (strncmp(value, "qemu:///", 8) != 0)
		return false;
	fprintf(out, "LibvirtUri=%s", value);
	return true;
}

static bool to_manage(const char *value, FILE *out)
{
	fprintf(out, "ManageLibvirt=%s", strstr(value, "Balloon") ? "all" : "no");
	return true;
}

/* ksmtuned acts when less than this percentage of memory is free. */
static bool to_budget(const char *value, FILE *out)
{
	uint64_t percent;

	if (!number(value, 90, &percent))
		return false;
	fprintf(out, "HostMemoryBudget=%" PRIu64 "%%", 100 - percent);
	return true;
}

static bool to_mib(const char *value, const char *key, FILE *out)
{
	uint64_t mib;

	if (!number(value, 1U << 22, &mib) || mib == 0)
		return false;
	fprintf(out, "%s=%" PRIu64 "M", key, mib);
	return true;
}

static bool to_memory(const char *value, FILE *out)
{
	return to_mib(value, "Memory", out);
}

static bool to_floor(const char *value, FILE *out)
{
	uint64_t mib;

	if (number(value, 0, &mib)) { /* 0: no balloon device */
		fputs("BalloonMax=0%", out);
		return true;
	}
	return to_mib(value, "MemoryMin", out);
}

static bool to_shares(const char *value, FILE *out)
{
	uint64_t n;

	if (!number(value, 1000000, &n) || n == 0)
		return false;
	fprintf(out, "Shares=%" PRIu64, n);
	return true;
}

static bool to_vcpus(const char *value, FILE *out)
{
	uint64_t n;

	if (!number(value, 1024, &n) || n == 0)
		return false;
	fprintf(out, "VCpus=%" PRIu64, n);
	return true;
}

static const struct rule mom_rules[] = {
	{"main-loop-interval", "Host", to_tick,
		"MOM's samples and decisions are one loop; so is memd's tick"},
	{"libvirt-hypervisor-uri", "Libvirt", to_uri, "memd manages QEMU on this host only"},
	{"controllers", "Libvirt", to_manage,
		"MOM acts on every guest; leave single ones out by Manage=no in their metadata"},
	{"policy", NULL, NULL,
		"MOM's rules are a language of its own; memd's policies: man memd-policies. Its "
		"default (floors, shrink by 5 %, grow at once) is nearest to Policy=proportional"},
	{"policy-dir", NULL, NULL, "memd's policies are plugins and programs: man memd-policy"},
	{"host-monitor-interval", NULL, NULL, "memd reads everything once a tick"},
	{"guest-monitor-interval", NULL, NULL, "memd reads everything once a tick"},
	{"guest-manager-interval", NULL, NULL, "memd follows libvirt's events"},
	{"hypervisor-interface", NULL, NULL, "memd speaks with libvirt itself, VDSM is not used"},
	{"guest-manager-multi-thread", NULL, NULL, "no guest waits for another in memd"},
	{"sample-history-length", NULL, NULL,
		"memd's history is as long as its files: memctl history"},
	{"collectors", NULL, NULL, "memd reads what there is; no agent is needed in the guest"},
	{"plot-dir", NULL, NULL, "memctl history GUEST --plot FILE"},
	{"plot-subdir", NULL, NULL, "memctl history GUEST --plot FILE"},
	{"rpc-port", NULL, NULL, "memd is on D-Bus: man org.memd1"},
	{"pid-file", NULL, NULL, "the service manager knows memd's process"},
	{"log", NULL, NULL, "memd logs to the journal"},
	{"verbosity", NULL, NULL, "memd logs to the journal"},
};

static const struct rule ksmtuned_rules[] = {
	{"KSM_THRES_COEF", "Host", to_budget,
		"ksmtuned begins below so much free memory; memd keeps within a budget by all its "
		"means"},
	{"KSM_THRES_CONST", NULL, NULL,
		"the lower bound of that in MiB; memd's budget is one figure"},
	{"KSM_MONITOR_INTERVAL", NULL, NULL,
		"memd looks once a tick, and acts on what it sees at once"},
	{"KSM_SLEEP_MSEC", NULL, NULL, "how fast ksmd scans is left as the host has it"},
	{"KSM_NPAGES_BOOST", NULL, NULL, "how fast ksmd scans is left as the host has it"},
	{"KSM_NPAGES_DECAY", NULL, NULL, "how fast ksmd scans is left as the host has it"},
	{"KSM_NPAGES_MIN", NULL, NULL, "how fast ksmd scans is left as the host has it"},
	{"KSM_NPAGES_MAX", NULL, NULL, "how fast ksmd scans is left as the host has it"},
	{"LOGFILE", NULL, NULL, "memd logs to the journal"},
	{"DEBUG", NULL, NULL, "memd logs to the journal"},
};

static const struct rule proxmox_rules[] = {
	{"memory", "Guest", to_memory, NULL},
	{"balloon", "Guest", to_floor, "Proxmox's minimum: a floor for memd"},
	{"shares", "Guest", to_shares,
		"0 keeps Proxmox from ballooning it: BalloonMax=0% does that in memd"},
	{"cores", "Guest", to_vcpus, "sockets multiply it"},
	{"sockets", NULL, NULL, "multiply VCpus= by it"},
	{"hugepages", NULL, NULL, "memd cannot take memory in hugetlbfs from a guest"},
	{"hostpci0", NULL, NULL,
		"a device of the host pins all memory: MemoryLocked=yes says the same of the "
		"guest"},
	{"name", NULL, NULL, "the name of the file is the guest's name"},
};

static const struct {
	const char *name;
	const char *separators;
	const struct rule *rules;
	size_t n_rules;
	const char *const *sections; /* of memd's file, in order */
} kinds[IMPORT_KINDS] = {
	[IMPORT_MOM] = {"mom", ":=", mom_rules, ARRAY_SIZE(mom_rules),
		(const char *const[]){"Host", "Libvirt", NULL}},
	[IMPORT_KSMTUNED] = {"ksmtuned", "=", ksmtuned_rules, ARRAY_SIZE(ksmtuned_rules),
		(const char *const[]){"Host", NULL}},
	[IMPORT_PROXMOX] = {"proxmox", ":", proxmox_rules, ARRAY_SIZE(proxmox_rules),
		(const char *const[]){"Guest", NULL}},
};

enum import_kind import_kind_of(const char *name)
{
	size_t i = 0;

	while (i < IMPORT_KINDS && strcmp(kinds[i].name, name) != 0)
		i++;
	return (enum import_kind)i;
}

static char *trim(char *text)
{
	size_t n;

	text += strspn(text, " \t\r");
	n = strlen(text);
	while (n > 0 && strchr(" \t\r", text[n - 1]))
		text[--n] = '\0';
	return text;
}

static const struct rule *find_rule(enum import_kind kind, const char *key)
{
	for (size_t i = 0; i < kinds[kind].n_rules; i++)
		if (strcmp(kinds[kind].rules[i].key, key) == 0)
			return &kinds[kind].rules[i];
	return NULL;
}

/*
 * Lines of key, separator, value. Of Proxmox only what is current: sections after the first are
 * snapshots. Comments go.
 */
static size_t read_settings(enum import_kind kind, char *text, struct setting *settings)
{
	char *rest, *line;
	size_t n = 0;

	for (line = strtok_r(text, "\n", &rest); line && n < SETTINGS_MAX;
		line = strtok_r(NULL, "\n", &rest)) {
		char *key = trim(line), *value;

		if (key[0] == '[' && kind == IMPORT_PROXMOX)
			break;
		if (key[0] == '#' || key[0] == ';' || key[0] == '[')
			continue;
		value = strpbrk(key, kinds[kind].separators);
		if (!value)
			continue;
		*value++ = '\0';
		text_clean(key);
		text_clean(value);
		settings[n] = (struct setting){.key = trim(key), .value = trim(value)};
		settings[n].rule = find_rule(kind, settings[n].key);
		n++;
	}
	return n;
}

static void print_setting(const struct setting *s, FILE *out)
{
	const struct rule *rule = s->rule;
	char *text = NULL;
	size_t size;
	FILE *converted = open_memstream(&text, &size);
	bool good = converted && rule->convert(s->value, converted);

	if (converted)
		fclose(converted);
	fprintf(out, "# %s: %s%s%s\n", s->key, s->value, rule->note ? "; " : "",
		rule->note ? rule->note : "");
	if (good)
		fprintf(out, "%s\n", text);
	else
		fputs("# (memd has no value for that)\n", out);
	free(text);
}

void import_convert(enum import_kind kind, char *text, FILE *out)
{
	struct setting settings[SETTINGS_MAX];
	size_t n = read_settings(kind, text, settings);

	fprintf(out, "# Made by memctl import %s. What has no equal in memd is in comments.\n",
		kinds[kind].name);
	for (const char *const *section = kinds[kind].sections; *section; section++) {
		fprintf(out, "\n[%s]\n", *section);
		for (size_t i = 0; i < n; i++)
			if (settings[i].rule && settings[i].rule->section &&
				strcmp(settings[i].rule->section, *section) == 0)
				print_setting(&settings[i], out);
	}
	if (kind == IMPORT_PROXMOX)
		fputs("# memd runs guests of its own from a kernel: say which\n"
		      "# Kernel=/var/lib/guests/vmlinuz\n",
			out);
	for (size_t i = 0; i < n; i++) {
		const struct setting *s = &settings[i];

		if (!s->rule || !s->rule->section)
			fprintf(out, "# %s: %s; %s\n", s->key, s->value,
				s->rule ? s->rule->note : "nothing in memd has to do with it");
	}
}

enum memctl_exit verb_import(struct memctl *m, int argc, char **argv)
{
	enum import_kind kind = import_kind_of(argv[0]);
	_cleanup_free_ char *text = NULL;
	size_t n;
	int r;

	if (kind == IMPORT_KINDS)
		return memctl_fail(m, MEMCTL_USAGE, NULL,
			"'%s' is none of mom, ksmtuned and proxmox", argv[0]);
	r = fd_read_file_at(AT_FDCWD, argv[1], IMPORT_MAX, &text, &n);
	if (r < 0)
		return memctl_fail(
			m, MEMCTL_REFUSED, NULL, "cannot read %s: %s", argv[1], strerror(-r));
	if (strlen(text) != n)
		return memctl_fail(
			m, MEMCTL_REFUSED, NULL, "%s is no text: it has NUL bytes", argv[1]);
	import_convert(kind, text, stdout);
	return MEMCTL_OK;
}
