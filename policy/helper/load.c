/* Which files are loaded, and loading them (helper.h). */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "memd/base/cleanup.h"
#include "policy/helper/helper.h"

/* The struct as version 1 had it first. */
#define POLICY_BYTES_V1 (offsetof(struct memd_policy, close) + sizeof(void *))

#define OTHERS_WRITE (S_IWGRP | S_IWOTH)

static bool owner_is_trusted(const struct stat *st)
{
	return st->st_uid == 0 || st->st_uid == geteuid();
}

static int refuse(struct error *e, const char *path, const char *why)
{
	return error_set(e, -EPERM,
		"%s is not loaded: %s; whoever may write there could run as they like. Give it to "
		"root: chown root, chmod go-w",
		path, why);
}

/* One directory above the file; nearest: the one that it lies in. */
static int check_directory(const char *path, bool nearest, struct error *e)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return error_set(e, -errno, "cannot look at %s: %m", path);
	if (!owner_is_trusted(&st))
		return refuse(e, path, "the directory belongs neither to root nor to this user");
	if ((st.st_mode & OTHERS_WRITE) && (nearest || !(st.st_mode & S_ISVTX)))
		return refuse(e, path, "others than its owner may write to the directory");
	return 0;
}

int load_check_trusted(const char *path, struct error *e)
{
	_cleanup_free_ char *real = NULL;
	struct stat st;
	char *slash;
	int r = 0;

	if (path[0] != '/')
		return error_set(e, -EINVAL, "%s: the path is to begin with '/'", path);
	if (lstat(path, &st) < 0)
		return error_set(e, -errno, "cannot look at %s: %m", path);
	if (!S_ISREG(st.st_mode))
		return refuse(e, path, "it is no regular file (nor may it be a link)");
	if (!owner_is_trusted(&st))
		return refuse(e, path, "it belongs neither to root nor to this user");
	if (st.st_mode & OTHERS_WRITE)
		return refuse(e, path, "others than its owner may write to it");
	real = realpath(path, NULL);
	if (!real)
		return error_set(e, -errno, "cannot look at %s: %m", path);
	for (bool nearest = true; r == 0 && (slash = strrchr(real, '/')); nearest = false) {
		if (slash == real)
			return check_directory("/", nearest, e);
		*slash = '\0';
		r = check_directory(real, nearest, e);
	}
	return r;
}

int load_open_plugin(const char *path, struct error *e)
{
	int fd, r = load_check_trusted(path, e);

	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? error_set(e, -errno, "cannot open %s: %m", path) : fd;
}

int load_plugin(int fd, void **ret_handle, struct error *e)
{
	char path[32];
	void *handle;

	/* What was checked is what is loaded, also for somebody who may not enter its directory. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return error_set(e, -ENOEXEC, "it cannot be loaded: %s", dlerror());
	*ret_handle = handle;
	return 0;
}

int load_take_policy(
	const struct memd_policy *given, const char *name, struct memd_policy *ret, struct error *e)
{
	struct memd_policy policy = {0};

	if (!given)
		return error_set(e, -EINVAL, "memd_policy_get() returned NULL");
	if (given->size < POLICY_BYTES_V1)
		return error_set(e, -EINVAL,
			"its struct memd_policy has %zu bytes, version 1 has at least %zu",
			given->size, POLICY_BYTES_V1);
	memcpy(&policy, given, given->size < sizeof(policy) ? given->size : sizeof(policy));
	if (policy.api_version != MEMD_POLICY_API_VERSION)
		return error_set(e, -EINVAL, "it is of interface version %u, this memd has %d",
			policy.api_version, MEMD_POLICY_API_VERSION);
	if (!policy.name || !policy.evaluate)
		return error_set(e, -EINVAL, "it has no name, or no evaluate()");
	if (name && strcmp(policy.name, name) != 0)
		return error_set(e, -EINVAL,
			"it calls itself '%s'; a plugin is named as its file: %s.so", policy.name,
			policy.name);
	*ret = policy;
	return 0;
}

int load_policy(void *handle, const char *name, struct memd_policy *ret, struct error *e)
{
	const struct memd_policy *(*get)(void);
	void *symbol = dlsym(handle, "memd_policy_get");

	if (!symbol)
		return error_set(
			e, -ENOEXEC, "it does not export memd_policy_get(); see memd-policy(3)");
	memcpy(&get, &symbol, sizeof(get)); /* C has no conversion from object to function */
	return load_take_policy(get(), name, ret, e);
}
