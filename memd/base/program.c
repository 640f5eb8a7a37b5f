/* See program.h. */
#include "memd/base/program.h"

#include <limits.h>
#include <string.h>

#include "memd/base/cleanup.h"

int program_find(const char *configured, const char *in_tree, const char *installed, char **ret)
{
	_cleanup_free_ char *path = NULL;
	char self[PATH_MAX];
	ssize_t n;

	if (configured)
		return (*ret = strdup(configured)) ? 0 : -ENOMEM;
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		return -errno;
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	if (asprintf(&path, "%s/../%s", self, in_tree) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	*ret = access(path, X_OK) == 0 ? TAKE_PTR(path) : strdup(installed);
	return *ret ? 0 : -ENOMEM;
}
