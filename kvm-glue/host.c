/* Host detection (kvm-glue/host.h). Must never change anything on the host. */
#include "kvm-glue/host.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memd/base/cleanup.h"

#define KVM_PATH "/dev/kvm"

static const struct {
	int cap;
	const char *name;
} required_caps[] = {
	{KVM_CAP_USER_MEMORY, "user memory"},
	{KVM_CAP_IRQCHIP, "in-kernel interrupt controllers"},
	{KVM_CAP_PIT2, "in-kernel timer"},
	{KVM_CAP_IRQ_ROUTING, "interrupt routing"},
	{KVM_CAP_IRQFD, "irqfd"},
	{KVM_CAP_IOEVENTFD, "ioeventfd"},
	{KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
	{KVM_CAP_EXT_CPUID, "CPUID"},
	{KVM_CAP_SET_TSS_ADDR, "TSS address"},
};

static bool has_module(const char *path)
{
	return access(path, F_OK) == 0;
}

/* A module that is built in shows in /sys even where the CPU lacks what it drives: hence both questions. */
static enum host_backend detect_backend(void)
{
	unsigned a, b, c, d;

	if (__get_cpuid(1, &a, &b, &c, &d) && (c & 1u << 5) && has_module("/sys/module/kvm_intel"))
		return HOST_BACKEND_VMX;
	if (__get_cpuid(0x80000001, &a, &b, &c, &d) && (c & 1u << 2) &&
		has_module("/sys/module/kvm_amd"))
		return HOST_BACKEND_SVM;
	if (has_module("/sys/module/kvm_pvm"))
		return HOST_BACKEND_PVM;
	return HOST_BACKEND_UNKNOWN;
}

/* Whether a module's parameter is Y or 1. */
static bool has_parameter(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char c = 0;

	return fd >= 0 && read(fd, &c, 1) == 1 && (c == 'Y' || c == '1');
}

static enum vmm_memory_mode detect_memory_mode(enum host_backend backend)
{
	switch (backend) {
	case HOST_BACKEND_VMX:
		return has_parameter("/sys/module/kvm_intel/parameters/ept") ? VMM_MEMORY_EPT
									     : VMM_MEMORY_SHADOW;
	case HOST_BACKEND_SVM:
		return has_parameter("/sys/module/kvm_amd/parameters/npt") ? VMM_MEMORY_NPT
									   : VMM_MEMORY_SHADOW;
	case HOST_BACKEND_PVM:
		return VMM_MEMORY_PVM;
	case HOST_BACKEND_UNKNOWN:
		break;
	}
	return VMM_MEMORY_UNKNOWN;
}

const char *host_backend_name(enum host_backend b)
{
	switch (b) {
	case HOST_BACKEND_VMX:
		return "VMX";
	case HOST_BACKEND_SVM:
		return "SVM";
	case HOST_BACKEND_PVM:
		return "PVM";
	case HOST_BACKEND_UNKNOWN:
		break;
	}
	return "unknown";
}

/* Says why /dev/kvm could not be opened and what helps. */
static int open_failed(int code, struct error *e)
{
	struct stat st;
	const struct group *g;

	switch (-code) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return error_set(e, code,
			"%s is not usable (%s): enable virtualization in the firmware (or nested "
			"virtualization, when this is itself a guest) and load the module "
			"kvm_intel or kvm_amd",
			KVM_PATH, strerror(-code));
	case EACCES:
	case EPERM:
		if (stat(KVM_PATH, &st) == 0 && (st.st_mode & S_IRWXG) && (g = getgrgid(st.st_gid)))
			return error_set(e, code,
				"no permission to open %s: the user must be in the group `%s`",
				KVM_PATH, g->gr_name);
		return error_set(e, code,
			"no permission to open %s: give it to the group `kvm` (chgrp kvm, mode "
			"0660) and put the user in that group",
			KVM_PATH);
	default:
		return error_set(e, code, "cannot open %s: %s", KVM_PATH, strerror(-code));
	}
}

static int ask(int fd, unsigned long request, unsigned long argument)
{
	int r = ioctl(fd, request, argument);

	return r < 0 ? -errno : r;
}

int host_open(struct host *ret, struct error *e)
{
	_cleanup_close_ int fd = open(KVM_PATH, O_RDWR | O_CLOEXEC);
	int r, vcpus_max, memslots_max;

	if (fd < 0)
		return open_failed(-errno, e);
	r = ask(fd, KVM_GET_API_VERSION, 0);
	if (r != KVM_API_VERSION)
		return error_set(e, -EPROTO, "%s speaks API version %d instead of %d", KVM_PATH, r,
			KVM_API_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(required_caps); i++)
		if (ask(fd, KVM_CHECK_EXTENSION, (unsigned long)required_caps[i].cap) <= 0)
			return error_set(e, -EOPNOTSUPP,
				"KVM of this kernel lacks %s: a kernel of 4.12 or later with KVM "
				"for x86 is needed",
				required_caps[i].name);
	r = ask(fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (r < (int)sizeof(struct kvm_run))
		return error_set(e, -EPROTO, "KVM gives no vCPU area (%d)", r);
	vcpus_max = ask(fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	memslots_max = ask(fd, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);
	*ret = (struct host){
		.kvm_fd = TAKE_FD(fd),
		.backend = detect_backend(),
		.memory_mode = detect_memory_mode(detect_backend()),
		.vcpus_max = vcpus_max > 0 ? (unsigned)vcpus_max : 1,
		.memslots_max = memslots_max > 0 ? (unsigned)memslots_max : 32,
		.run_bytes = (size_t)r,
	};
	return 0;
}

void host_close(struct host *h)
{
	cleanup_closep(&h->kvm_fd);
	h->kvm_fd = -1;
}
