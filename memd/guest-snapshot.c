/*
 * Snapshots as memd handles them: the directory with the files that memd-vmm, which sees no files,
 * gets as descriptors, and the settings that a guest started from there takes over.
 *
 * The trust group goes with the RAM: a clone is of its template's group, and of a guest that shares
 * with nobody the clones are a group of their own, which is named here, once and for all.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "memd/base/log.h"
#include "memd/base/units.h"
#include "memd/guest-internal.h"

static const char *const file_names[] = {"state", "ram", "settings"};
enum {
	FILE_STATE,
	FILE_RAM,
	FILE_SETTINGS,
	N_FILES,
};

struct taking {
	char *directory;
	guest_done_fn done;
	void *context;
	char guest[CONFIG_GUEST_NAME_MAX + 1];
};

/* Files that were made, and the directory if it is empty then. */
static void remove_all(const char *directory)
{
	_cleanup_close_ int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

	for (unsigned i = 0; fd >= 0 && i < N_FILES; i++)
		unlinkat(fd, file_names[i], 0);
	rmdir(directory);
}

static int write_settings(const struct guest *g, int fd)
{
	_cleanup_fclose_ FILE *f = NULL;
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	uint64_t id;

	f = own >= 0 ? fdopen(own, "w") : NULL;
	if (!f) {
		cleanup_closep(&own);
		return -errno;
	}
	fprintf(f, "[Guest]\nMemory=%" PRIu64 "\nVCpus=%" PRIu32 "\n", g->config.memory_bytes,
		g->config.n_vcpus);
	if (g->config.share_group)
		fprintf(f, "ShareGroup=%s\n", g->config.share_group);
	else if (getrandom(&id, sizeof(id), 0) == sizeof(id))
		fprintf(f, "ShareGroup=snapshot-%016" PRIx64 "\n", id);
	return fflush(f) != 0 || fdatasync(fd) < 0 ? -errno : 0;
}

static int make_files(
	const struct guest *g, const char *directory, int fds[N_FILES], struct refusal *refusal)
{
	_cleanup_close_ int dir_fd = -1;
	int r = 0;

	if (directory[0] != '/')
		return refusal_set(
			refusal, REFUSAL_BAD_SETTING, -EINVAL, "%s is no absolute path", directory);
	if (mkdir(directory, 0700) < 0)
		return refusal_set(refusal, REFUSAL_BAD_SETTING, -errno,
			"cannot make %s: %s; a snapshot gets a directory of its own", directory,
			strerror(errno));
	dir_fd = open(directory, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	for (unsigned i = 0; r == 0 && i < N_FILES; i++) {
		fds[i] = openat(dir_fd, file_names[i],
			O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		r = fds[i] < 0 ? -errno : 0;
	}
	if (r == 0)
		r = write_settings(g, fds[FILE_SETTINGS]);
	if (r < 0) {
		remove_all(directory);
		return refusal_set(refusal, REFUSAL_FAILED, r, "cannot write to %s: %s", directory,
			strerror(-r));
	}
	return 0;
}

static void on_taken(void *context, int result, const struct refusal *refusal)
{
	struct taking *t = context;

	if (result < 0)
		remove_all(t->directory);
	else
		log_notice("guest %s: snapshot in %s", t->guest, t->directory);
	t->done(t->context, result, refusal);
	free(t->directory);
	free(t);
}

int guest_snapshot(struct guest *g, const char *directory, guest_done_fn done, void *context,
	struct refusal *refusal)
{
	_cleanup_free_ struct taking *t = malloc(sizeof(*t));
	_cleanup_free_ char *path = strdup(directory);
	int fds[N_FILES] = {-1, -1, -1}, r;

	if (!t || !path)
		return refusal_set(refusal, REFUSAL_FAILED, -ENOMEM, "out of memory");
	r = guest_may_snapshot(g, refusal);
	if (r < 0)
		return r;
	r = make_files(g, directory, fds, refusal);
	if (r == 0) {
		*t = (struct taking){.directory = path, .done = done, .context = context};
		snprintf(t->guest, sizeof(t->guest), "%s", g->name);
		r = guest_send_snapshot(g, fds, on_taken, t, refusal);
		if (r < 0)
			remove_all(directory);
	}
	for (unsigned i = 0; i < N_FILES; i++)
		cleanup_closep(&fds[i]);
	if (r < 0)
		return r;
	TAKE_PTR(t);
	TAKE_PTR(path);
	return 0;
}

int guest_snapshot_complete(struct guest_config *c, struct error *e)
{
	_cleanup_free_ char *path = NULL;
	struct guest_config saved = {0};
	int r;

	if (asprintf(&path, "%s/settings", c->snapshot) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	r = guest_config_load(path, &saved, e);
	if (r < 0)
		return error_set(e, r, "there is no snapshot in %s: %s", c->snapshot, strerror(-r));
	if (c->memory_bytes && c->memory_bytes != saved.memory_bytes)
		r = error_set(e, -EINVAL, "Memory= is the snapshot's (%s); leave it out",
			UNITS_BYTES(saved.memory_bytes));
	else if (c->share_group &&
		 (!saved.share_group || strcmp(c->share_group, saved.share_group) != 0))
		r = error_set(e, -EINVAL,
			"ShareGroup=%s: a clone is of its template's trust group (%s), since it "
			"shares all memory with it; leave it out",
			c->share_group, saved.share_group ? saved.share_group : "none");
	if (r == 0) {
		c->memory_bytes = saved.memory_bytes;
		c->n_vcpus = saved.n_vcpus;
		free(c->share_group);
		c->share_group = TAKE_PTR(saved.share_group);
	}
	guest_config_done(&saved);
	return r;
}
