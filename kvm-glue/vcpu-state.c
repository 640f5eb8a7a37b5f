/*
 * A vCPU in a snapshot: everything that KVM has of it. The vCPU stands still (vcpu.c: it is whole
 * then), and any thread may call.
 *
 * DOC: order and MSRs
 * CPUID comes first, since KVM checks the rest against it; control registers before the local APIC,
 * whose base is one of them; the TSC before the deadline that is counted in it. Of the MSRs those
 * are set that differ from a fresh vCPU's, so that the many which KVM lists and does not let be
 * written do no harm as long as they are what they always are; one that differs and cannot be set
 * is an error.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm-glue/vcpu.h"
#include "kvm-glue/x86.h"

#define TAG_CPUID     SNAPSHOT_TAG('c', 'p', 'u', 'i')
#define TAG_REGISTERS SNAPSHOT_TAG('r', 'e', 'g', 's')
#define TAG_XSAVE     SNAPSHOT_TAG('x', 's', 'a', 'v')
#define TAG_LAPIC     SNAPSHOT_TAG('a', 'p', 'i', 'c')
#define TAG_MSRS      SNAPSHOT_TAG('m', 's', 'r', 's')

#define CPUID_ENTRIES_MAX 256
#define MSRS_MAX	  1024
#define XSAVE_BYTES_MAX	  (64 * KIB)

#define MSR_TSC_DEADLINE 0x6e0

struct saved_registers {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debug;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	uint32_t index;
};

static int failed(const struct vcpu *v, const char *what, struct error *e)
{
	return error_set(e, -errno, "%s of vCPU %u: %s", what, v->index, strerror(errno));
}

static bool has(const struct vcpu *v, int cap, int least)
{
	return ioctl(v->vm->host->kvm_fd, KVM_CHECK_EXTENSION, (unsigned long)cap) >= least;
}

static int save_registers(struct vcpu *v, struct snapshot_writer *w, struct error *e)
{
	struct saved_registers s;

	memset(&s, 0, sizeof(s));
	s.index = v->index;
	if (ioctl(v->fd, KVM_GET_MP_STATE, &s.mp) < 0 || ioctl(v->fd, KVM_GET_REGS, &s.regs) < 0 ||
		ioctl(v->fd, KVM_GET_SREGS, &s.sregs) < 0 ||
		ioctl(v->fd, KVM_GET_DEBUGREGS, &s.debug) < 0 ||
		ioctl(v->fd, KVM_GET_VCPU_EVENTS, &s.events) < 0)
		return failed(v, "reading registers", e);
	if (has(v, KVM_CAP_XCRS, 1) && ioctl(v->fd, KVM_GET_XCRS, &s.xcrs) < 0)
		return failed(v, "reading XCRs", e);
	snapshot_put(w, TAG_REGISTERS, &s, sizeof(s));
	return 0;
}

static size_t xsave_bytes(const struct vcpu *v)
{
	int bytes = ioctl(v->vm->host->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

	return bytes > (int)sizeof(struct kvm_xsave) && bytes <= (int)XSAVE_BYTES_MAX
		       ? (size_t)bytes
		       : sizeof(struct kvm_xsave);
}

static int save_fpu(struct vcpu *v, struct snapshot_writer *w, struct error *e)
{
	const size_t bytes = xsave_bytes(v);
	_cleanup_free_ uint8_t *xsave = calloc(1, bytes);
	const bool large = bytes > sizeof(struct kvm_xsave);

	if (!xsave)
		return error_set(e, -ENOMEM, "out of memory");
	if (ioctl(v->fd, large ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, xsave) < 0)
		return failed(v, "reading the FPU", e);
	snapshot_put(w, TAG_XSAVE, xsave, bytes);
	return 0;
}

static int save_lapic(struct vcpu *v, struct snapshot_writer *w, struct error *e)
{
	struct kvm_lapic_state lapic;

	memset(&lapic, 0, sizeof(lapic));
	if (ioctl(v->fd, KVM_GET_LAPIC, &lapic) < 0)
		return failed(v, "reading the local APIC", e);
	snapshot_put(w, TAG_LAPIC, &lapic, sizeof(lapic));
	return 0;
}

/* The numbers that KVM lists; *ret is the caller's. */
static int list_msrs(const struct vcpu *v, struct kvm_msr_list **ret)
{
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + MSRS_MAX * sizeof(list->indices[0]));

	if (!list)
		return -ENOMEM;
	list->nmsrs = MSRS_MAX;
	if (ioctl(v->vm->host->kvm_fd, KVM_GET_MSR_INDEX_LIST, list) < 0) {
		free(list);
		return -errno;
	}
	*ret = list;
	return 0;
}

/* One MSR: KVM stops at the first that it does not do. 1: done. */
struct one_msr {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
};

static bool get_msr(const struct vcpu *v, uint32_t index, uint64_t *ret)
{
	struct one_msr m = {.head.nmsrs = 1, .entry.index = index};

	if (ioctl(v->fd, KVM_GET_MSRS, &m) != 1)
		return false;
	*ret = m.entry.data;
	return true;
}

static bool set_msr(const struct vcpu *v, uint32_t index, uint64_t value)
{
	struct one_msr m = {.head.nmsrs = 1, .entry = {.index = index, .data = value}};

	return ioctl(v->fd, KVM_SET_MSRS, &m) == 1;
}

static int save_msrs(struct vcpu *v, struct snapshot_writer *w, struct error *e)
{
	_cleanup_free_ struct kvm_msr_list *list = NULL;
	_cleanup_free_ struct kvm_msr_entry *entries = calloc(MSRS_MAX, sizeof(*entries));
	int r = entries ? list_msrs(v, &list) : -ENOMEM;
	size_t n = 0;

	if (r < 0)
		return error_set(e, r, "listing MSRs: %s", strerror(-r));
	for (uint32_t i = 0; i < list->nmsrs; i++) {
		uint64_t value;

		if (!get_msr(v, list->indices[i], &value))
			continue;
		entries[n++] = (struct kvm_msr_entry){.index = list->indices[i], .data = value};
	}
	snapshot_put(w, TAG_MSRS, entries, n * sizeof(*entries));
	return 0;
}

static int vcpu_save(struct vcpu *v, struct snapshot_writer *w, struct error *e)
{
	int r;

	snapshot_put(
		w, TAG_CPUID, v->cpuid->entries, v->cpuid->nent * sizeof(v->cpuid->entries[0]));
	r = save_registers(v, w, e);
	if (r == 0)
		r = save_fpu(v, w, e);
	if (r == 0)
		r = save_lapic(v, w, e);
	return r == 0 ? save_msrs(v, w, e) : r;
}

int vcpus_save(struct vcpus *all, struct snapshot_writer *w, struct error *e)
{
	int r = 0;

	for (unsigned i = 0; i < all->n && r == 0; i++)
		r = vcpu_save(&all->vcpus[i], w, e);
	return r;
}

static int damaged(const struct vcpu *v, struct error *e)
{
	return error_set(e, -EINVAL, "the state of vCPU %u is damaged", v->index);
}

static int restore_cpuid(struct vcpu *v, struct snapshot_reader *r, struct error *e)
{
	_cleanup_free_ struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + CPUID_ENTRIES_MAX * sizeof(cpuid->entries[0]));
	const void *entries;
	size_t n;
	int result;

	if (!cpuid)
		return error_set(e, -ENOMEM, "out of memory");
	if (snapshot_get_array(
		    r, TAG_CPUID, sizeof(cpuid->entries[0]), CPUID_ENTRIES_MAX, &entries, &n) < 0)
		return damaged(v, e);
	cpuid->nent = (uint32_t)n;
	memcpy(cpuid->entries, entries, n * sizeof(cpuid->entries[0]));
	result = x86_cpuid_check(v->vm->host, cpuid, e);
	if (result < 0)
		return result;
	if (ioctl(v->fd, KVM_SET_CPUID2, cpuid) < 0)
		return failed(v, "KVM refuses CPUID", e);
	free(v->cpuid);
	v->cpuid = TAKE_PTR(cpuid);
	return 0;
}

/* The FPU's state goes in between: it depends on XCR0 and CR4. */
static int restore_registers(struct vcpu *v, struct snapshot_reader *r,
	struct kvm_vcpu_events *ret_events, struct error *e)
{
	struct saved_registers s;
	const void *xsave;
	size_t n;

	if (snapshot_get(r, TAG_REGISTERS, &s, sizeof(s)) < 0 || s.index != v->index ||
		snapshot_get_array(r, TAG_XSAVE, 1, XSAVE_BYTES_MAX, &xsave, &n) < 0)
		return damaged(v, e);
	if (n != xsave_bytes(v))
		return error_set(e, -EINVAL,
			"the FPU of the snapshot's host (%zu bytes) is not this one's (%zu)", n,
			xsave_bytes(v));
	if (ioctl(v->fd, KVM_SET_MP_STATE, &s.mp) < 0 ||
		ioctl(v->fd, KVM_SET_SREGS, &s.sregs) < 0 ||
		ioctl(v->fd, KVM_SET_REGS, &s.regs) < 0)
		return failed(v, "KVM refuses registers", e);
	if (has(v, KVM_CAP_XCRS, 1) && ioctl(v->fd, KVM_SET_XCRS, &s.xcrs) < 0)
		return failed(v, "KVM refuses XCRs", e);
	if (ioctl(v->fd, KVM_SET_XSAVE, xsave) < 0)
		return failed(v, "KVM refuses the FPU", e);
	if (ioctl(v->fd, KVM_SET_DEBUGREGS, &s.debug) < 0)
		return failed(v, "KVM refuses debug registers", e);
	*ret_events = s.events;
	return 0;
}

static int restore_msrs(struct vcpu *v, struct snapshot_reader *r, struct error *e)
{
	const struct kvm_msr_entry *entries;
	uint64_t deadline = 0, fresh;
	const void *array;
	size_t n;

	if (snapshot_get_array(r, TAG_MSRS, sizeof(*entries), MSRS_MAX, &array, &n) < 0)
		return damaged(v, e);
	entries = array;
	for (size_t i = 0; i < n; i++) {
		if (entries[i].index == MSR_TSC_DEADLINE) {
			deadline = entries[i].data;
			continue;
		}
		if (get_msr(v, entries[i].index, &fresh) && fresh == entries[i].data)
			continue;
		if (!set_msr(v, entries[i].index, entries[i].data))
			return error_set(e, -EINVAL,
				"KVM refuses 0x%llx for MSR 0x%x of vCPU %u: the snapshot is of "
				"another kind of host",
				(unsigned long long)entries[i].data, entries[i].index, v->index);
	}
	if (deadline && !set_msr(v, MSR_TSC_DEADLINE, deadline))
		return error_set(e, -EINVAL, "KVM refuses the timer deadline of vCPU %u", v->index);
	return 0;
}

static int vcpu_restore(struct vcpu *v, struct snapshot_reader *r, struct error *e)
{
	struct kvm_vcpu_events events;
	struct kvm_lapic_state lapic;
	int result = restore_cpuid(v, r, e);

	if (result == 0)
		result = restore_registers(v, r, &events, e);
	if (result < 0)
		return result;
	if (snapshot_get(r, TAG_LAPIC, &lapic, sizeof(lapic)) < 0)
		return damaged(v, e);
	if (ioctl(v->fd, KVM_SET_LAPIC, &lapic) < 0)
		return failed(v, "KVM refuses the local APIC", e);
	result = restore_msrs(v, r, e);
	if (result < 0)
		return result;
	return ioctl(v->fd, KVM_SET_VCPU_EVENTS, &events) < 0 ? failed(v, "KVM refuses events", e)
							      : 0;
}

int vcpus_restore(struct vcpus *all, struct snapshot_reader *r, struct error *e)
{
	int result = 0;

	for (unsigned i = 0; i < all->n && result == 0; i++)
		result = vcpu_restore(&all->vcpus[i], r, e);
	return result;
}
