/* Finds the figures by name once, and reads each as one number then. */
#include "kvm-glue/kvm-stats.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "memd/base/fd.h"

#define NAME_BYTES_MAX	256
#define DESCRIPTORS_MAX 1024
#define DATA_BYTES_MAX	(64 * 1024)

static const char *const names[KVM_STATS] = {
	[KVM_STAT_PAGES_4K] = "pages_4k",
	[KVM_STAT_PAGES_2M] = "pages_2m",
	[KVM_STAT_PAGES_1G] = "pages_1g",
	[KVM_STAT_MMU_UNSYNC] = "mmu_unsync",
	[KVM_STAT_MMU_SHADOW_ZAPPED] = "mmu_shadow_zapped",
	[KVM_STAT_MMU_PTE_WRITE] = "mmu_pte_write",
	[KVM_STAT_REMOTE_TLB_FLUSHES] = "remote_tlb_flush",
	[KVM_STAT_TLB_FLUSHES] = "tlb_flush",
	[KVM_STAT_PF_TAKEN] = "pf_taken",
	[KVM_STAT_PF_FIXED] = "pf_fixed",
	[KVM_STAT_PF_GUEST] = "pf_guest",
	[KVM_STAT_EXITS] = "exits",
	[KVM_STAT_HALT_EXITS] = "halt_exits",
	[KVM_STAT_IO_EXITS] = "io_exits",
	[KVM_STAT_MMIO_EXITS] = "mmio_exits",
};

/* One descriptor of KVM's; offsets are of its data, 0 for what it does not have. */
struct source {
	int fd;
	uint64_t data_offset;
	uint64_t offsets[KVM_STATS];
	uint8_t present[KVM_STATS];
};

struct kvm_stats {
	unsigned n_sources;
	struct source *sources; /* the VM, then its vCPUs */
};

static void take_descriptor(struct source *s, const struct kvm_stats_desc *d, const char *name)
{
	for (unsigned i = 0; i < KVM_STATS; i++) {
		if (strcmp(name, names[i]) != 0 || d->size != 1)
			continue;
		s->offsets[i] = d->offset;
		s->present[i] = 1;
	}
}

/* Where each figure is. */
static int read_descriptors(struct source *s)
{
	_cleanup_free_ uint8_t *descriptors = NULL;
	struct kvm_stats_header h;
	size_t each;
	int r = fd_pread_full(s->fd, &h, sizeof(h), 0);

	if (r < 0)
		return r;
	if (h.name_size == 0 || h.name_size > NAME_BYTES_MAX || h.num_desc > DESCRIPTORS_MAX)
		return -EPROTO;
	each = sizeof(struct kvm_stats_desc) + h.name_size;
	descriptors = malloc(h.num_desc * each + 1);
	if (!descriptors)
		return -ENOMEM;
	r = fd_pread_full(s->fd, descriptors, h.num_desc * each, (off_t)h.desc_offset);
	for (uint32_t i = 0; r == 0 && i < h.num_desc; i++) {
		struct kvm_stats_desc d;
		char name[NAME_BYTES_MAX + 1] = {0};

		memcpy(&d, descriptors + i * each, sizeof(d));
		memcpy(name, descriptors + i * each + sizeof(d), h.name_size);
		if (d.offset < DATA_BYTES_MAX)
			take_descriptor(s, &d, name);
	}
	s->data_offset = h.data_offset;
	return r;
}

static int add_source(struct kvm_stats *s, int kvm_fd)
{
	struct source *source = &s->sources[s->n_sources];

	source->fd = ioctl(kvm_fd, KVM_GET_STATS_FD, NULL);
	if (source->fd < 0)
		return errno == ENOTTY || errno == EINVAL ? -ENOTSUP : -errno;
	s->n_sources++;
	return read_descriptors(source);
}

int kvm_stats_new(int vm_fd, const int *vcpu_fds, unsigned n, struct kvm_stats **ret)
{
	_cleanup_(kvm_stats_freep) struct kvm_stats *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->sources = calloc(n + 1, sizeof(*s->sources));
	if (!s->sources)
		return -ENOMEM;
	r = add_source(s, vm_fd);
	for (unsigned i = 0; i < n && r == 0; i++)
		r = add_source(s, vcpu_fds[i]);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}

void kvm_stats_free(struct kvm_stats *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->n_sources; i++)
		cleanup_closep(&s->sources[i].fd);
	free(s->sources);
	free(s);
}

int kvm_stats_read(const struct kvm_stats *s, uint64_t ret[KVM_STATS])
{
	memset(ret, 0, KVM_STATS * sizeof(ret[0]));
	for (unsigned i = 0; i < s->n_sources; i++) {
		const struct source *source = &s->sources[i];

		for (unsigned j = 0; j < KVM_STATS; j++) {
			uint64_t value;
			int r;

			if (!source->present[j])
				continue;
			r = fd_pread_full(source->fd, &value, sizeof(value),
				(off_t)(source->data_offset + source->offsets[j]));
			if (r < 0)
				return r;
			ret[j] += value;
		}
	}
	return 0;
}
