/*
 * The settings of a running guest in the runtime directory, for the memd that adopts it: the same
 * format as a .guest file.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memd/base/fd.h"
#include "memd/base/units.h"
#include "memd/guest.h"

static void print_settings(FILE *f, const struct guest *g)
{
	const struct guest_config *c = &g->config;

	fprintf(f, "[Guest]\nMemory=%" PRIu64 "\nVCpus=%" PRIu32 "\n", c->memory_bytes,
		c->n_vcpus);
	if (c->memory_locked)
		fputs("MemoryLocked=yes\n", f);
	if (c->cpu_placement)
		fprintf(f, "CpuPlacement=%s\n",
			c->cpu_placement == CONFIG_PLACEMENT_AUTO ? "auto" : "pinned");
	if (c->kernel)
		fprintf(f, "Kernel=%s\n", c->kernel);
	if (c->snapshot)
		fprintf(f, "Snapshot=%s\n", c->snapshot);
	if (c->initrd)
		fprintf(f, "Initrd=%s\n", c->initrd);
	if (c->command_line)
		fprintf(f, "CommandLine=%s\n", c->command_line);
	if (c->cpu_features)
		fprintf(f, "CpuFeatures=%s\n", c->cpu_features);
	fprintf(f, "MemoryMin=%" PRIu64 "\nMemoryMax=%" PRIu64 "\nShares=%" PRIu32 "\n",
		g->min_bytes, g->max_bytes, c->shares);
	if (c->share_group)
		fprintf(f, "ShareGroup=%s\n", c->share_group);
	if (c->policy_group)
		fprintf(f, "PolicyGroup=%s\n", c->policy_group);
	fprintf(f, "BalloonMax=%" PRIu32 ".%02" PRIu32 "%%\nConsole=%s\n", c->balloon_max_bp / 100,
		c->balloon_max_bp % 100, g->console_path);
	fputs(g->devices, f);
}

int guest_save_settings(const struct guest *g)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return -ENOMEM;
	print_settings(f, g);
	return fclose(f) == 0 ? fd_replace_file(g->settings_path, text) : -ENOMEM;
}

int guest_save_target(const struct guest *g)
{
	_cleanup_free_ char *text = NULL;

	if (!g->fixed_bytes)
		return unlink(g->target_path) < 0 && errno != ENOENT ? -errno : 0;
	if (asprintf(&text, "%" PRIu64 "\n", g->fixed_bytes) < 0) {
		text = NULL;
		return -ENOMEM;
	}
	return fd_replace_file(g->target_path, text);
}

void guest_load_target(struct guest *g)
{
	_cleanup_free_ char *text = NULL;
	uint64_t bytes;

	if (fd_read_file_at(AT_FDCWD, g->target_path, 64, &text, NULL) < 0)
		return;
	text[strcspn(text, "\n")] = '\0';
	if (units_parse_bytes(text, &bytes, NULL) < 0 || bytes < g->min_bytes ||
		bytes > g->max_bytes)
		return;
	g->fixed_bytes = g->target_bytes = bytes;
	snprintf(g->target_reason, sizeof(g->target_reason), "set by the operator");
}
