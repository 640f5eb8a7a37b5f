/*
 * Isolation (sandbox.h): namespaces of its own, and a user of its own.
 *
 * DOC: what is left
 * The mount namespace holds one empty, read-only directory: the old root is detached, so there is no
 * path to anything, and nothing to make one in. The network namespace has no interface that is up,
 * the IPC namespace no object. The user is one that no file belongs to and no other guest has: a
 * number from a range that distributions leave alone, drawn at each start. memd starts memd-vmm in a
 * process namespace of its own besides (memd/spawn.c).
 *
 * Without CAP_SYS_ADMIN (under memd's systemd unit) the namespaces hang on a user namespace. Where
 * there is none for users, or no CAP_SETUID, the guest runs without these layers and the log says so;
 * the filter of system calls and the drop of privileges do not depend on them.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kvm-glue/sandbox.h"
#include "memd/base/cleanup.h"
#include "memd/base/log.h"

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)
/* Of UIDs 1879048192 to 2147483647, which systemd's list of ranges calls unused. */
#define ID_BASE	   0x70000000u
#define ID_MASK	   0x00ffffffu

/* A directory that is there on every Linux, to mount the empty root on. */
#define PLACE	  "/proc"
#define DEPTH_MAX 64 /* of directories between the root of a chroot and that of the system */

/*
 * Where the root is no mount point (in a chroot), nothing can be mounted privately and pivot_root
 * refuses. The way out of a chroot (chroot(2), NOTES: the working directory may lie outside of the
 * root) leads to the root of the namespace, which is ours and is left for good right after.
 */
static int leave_chroot(void)
{
	_cleanup_close_ int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || chroot(PLACE) < 0 || fchdir(fd) < 0)
		return -errno;
	for (unsigned depth = 0; depth < DEPTH_MAX; depth++)
		if (chdir("..") < 0)
			return -errno;
	return chroot(".") < 0 ? -errno : 0;
}

static int make_private(void)
{
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? -errno : 0;
}

static int leave_files(struct error *e)
{
	int r = make_private();

	if (r == -EINVAL) {
		r = leave_chroot();
		if (r == 0)
			r = make_private();
	}
	if (r < 0)
		return error_set(e, r, "sandbox: leaving the host's mounts: %s", strerror(-r));
	if (mount("none", PLACE, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY,
		    "size=4k,nr_inodes=1,mode=0555") < 0)
		return error_set(e, -errno, "sandbox: mounting an empty root: %s", strerror(errno));
	/* The new root over the old one (pivot_root(2), NOTES), then the old one away. */
	if (chdir(PLACE) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
		umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return error_set(e, -errno, "sandbox: leaving the old root: %s", strerror(errno));
	return 0;
}

/* Only with the right to it (CAP_SETUID). 0, or an errno: then nothing has changed. */
static int become_nobody(void)
{
	uint32_t id;

	if (getrandom(&id, sizeof(id), 0) != sizeof(id))
		return -EIO;
	id = ID_BASE | (id & ID_MASK);
	if (setgroups(0, NULL) < 0 || setresgid(id, id, id) < 0 || setresuid(id, id, id) < 0)
		return -errno;
	return 0;
}

/* With the right to make namespaces, or, as the user it is by then, in a user namespace of its own. */
static int enter_namespaces(unsigned more)
{
	struct error e = {0};

	if (unshare(NAMESPACES | (int)more) < 0)
		return -errno;
	if (leave_files(&e) < 0)
		log_warning("%s", e.text);
	return 0;
}

void sandbox_isolate(void)
{
	int entered, user = 0;

	if (!SANDBOX_COMPLETE)
		return;
	entered = enter_namespaces(0);
	if (geteuid() == 0)
		user = become_nobody();
	if (entered < 0)
		entered = enter_namespaces(CLONE_NEWUSER);
	if (user < 0)
		log_warning("sandbox: no user of its own: %s", strerror(-user));
	if (entered < 0)
		log_warning("sandbox: no namespaces of its own: %s", strerror(-entered));
}
