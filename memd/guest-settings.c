/*
 * The settings of a running guest in the runtime directory, for the memd that adopts it: the same
 * format as a .guest file.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "memd/guest.h"

static void print_settings(FILE *f, const struct guest *g)
{
	const struct guest_config *c = &g->config;

	fprintf(f, "[Guest]\nMemory=%" PRIu64 "\nVCpus=%" PRIu32 "\n", c->memory_bytes,
		c->n_vcpus);
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
	fprintf(f, "BalloonMax=%" PRIu32 ".%02" PRIu32 "%%\nConsole=%s\n", c->balloon_max_bp / 100,
		c->balloon_max_bp % 100, g->console_path);
	fputs(g->devices, f);
}

int guest_save_settings(const struct guest *g)
{
	_cleanup_fclose_ FILE *f = NULL;
	_cleanup_free_ char *temporary = NULL;
	int r = 0;

	if (asprintf(&temporary, "%s.new", g->settings_path) < 0) {
		temporary = NULL;
		return -ENOMEM;
	}
	f = fopen(temporary, "we");
	if (!f)
		return -errno;
	print_settings(f, g);
	if (fflush(f) != 0 || rename(temporary, g->settings_path) < 0)
		r = -errno;
	if (r < 0)
		unlink(temporary);
	return r;
}
