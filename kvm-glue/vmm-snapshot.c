/*
 * Snapshots (vmm-snapshot.h).
 *
 * DOC: in which order
 * All vCPUs stand still, each with its last exit completed. Then device threads are quiesced, so that
 * nothing raises an interrupt or touches memory; then interrupt controllers and vCPUs are read, with
 * every interrupt that was raised in them; then devices; then the RAM is written. Back in the same
 * order, except that devices come after the interrupt controllers, since their lines are raised anew.
 *
 * The thread is one of its own, for device threads may wait for memory, which the control loop must
 * not. Not saved, since it belongs to this process: the console file, the agent's connection, the
 * pool's mappings (their content is in the RAM).
 */
#include "kvm-glue/vmm-snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "kvm-glue/vmm.h"
#include "memd/base/fd.h"
#include "memd/base/template-file.h"

#define TAG_MACHINE SNAPSHOT_TAG('m', 'a', 'c', 'h')

struct saved_machine {
	uint64_t memory_bytes;
	uint32_t n_vcpus;
	uint32_t backend;
	char program_version[32];
};

static int save(struct vmm *vmm, struct snapshot_writer *w, struct error *e)
{
	struct saved_machine machine = {
		.memory_bytes = vmm->memory_bytes,
		.n_vcpus = vmm->n_vcpus,
		.backend = vmm->host.backend,
		.program_version = MEMD_VERSION,
	};
	int r;

	snapshot_put(w, TAG_MACHINE, &machine, sizeof(machine));
	r = vm_save(vmm->vm, w, e);
	if (r == 0)
		r = vcpus_save(vmm->vcpus, w, e);
	if (r < 0)
		return r;
	serial_save(vmm->serial, w);
	rtc_save(vmm->rtc, w);
	acpi_pm_save(vmm->pm, w);
	r = pci_bus_save(vmm->pci, w, e);
	if (r < 0)
		return r;
	r = snapshot_finish(w);
	return r < 0 ? error_set(e, r, "the state of the guest: %s", strerror(-r)) : 0;
}

int vmm_restore(struct vmm *vmm, struct vmm_saved *s, struct error *e)
{
	struct snapshot_reader *from = &s->reader;
	int r;

	r = vm_restore(vmm->vm, from, e);
	if (r == 0)
		r = vcpus_restore(vmm->vcpus, from, e);
	if (r == 0)
		r = serial_restore(vmm->serial, from);
	if (r == 0)
		r = rtc_restore(vmm->rtc, from);
	if (r == 0)
		r = acpi_pm_restore(vmm->pm, from);
	if (r == 0)
		r = pci_bus_restore(vmm->pci, from, e);
	if (r == 0 && !snapshot_reader_at_end(from))
		r = -EINVAL;
	if (r < 0) {
		error_set(e, r, "damaged");
		error_prefix(e, "the snapshot's state");
		return r;
	}
	vmm_saved_done(s);
	return 0;
}

static int read_state(const char *directory, struct vmm_saved *s, struct error *e)
{
	_cleanup_free_ char *path = NULL;
	char *text;
	int r;

	if (asprintf(&path, "%s/" SNAPSHOT_STATE, directory) < 0) {
		path = NULL;
		return error_set(e, -ENOMEM, "out of memory");
	}
	r = fd_read_file_at(AT_FDCWD, path, SNAPSHOT_BYTES_MAX, &text, &s->size);
	if (r < 0)
		return error_set(e, r, "snapshot %s: %s", path, strerror(-r));
	s->bytes = (uint8_t *)text;
	r = snapshot_reader_init(&s->reader, s->bytes, s->size, e);
	if (r < 0)
		error_prefix(e, "snapshot %s", path);
	return r;
}

static int load_ram(const char *directory, struct vmm_saved *s, struct error *e)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -1;
	int r;

	if (asprintf(&path, "%s/" SNAPSHOT_RAM, directory) < 0) {
		path = NULL;
		return error_set(e, -ENOMEM, "out of memory");
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return error_set(e, -errno, "snapshot %s: %s", path, strerror(errno));
	r = template_file_load(fd, s->memory_bytes, &s->template_fd, e);
	if (r < 0)
		error_prefix(e, "snapshot %s", path);
	return r;
}

static int check_machine(struct vmm_saved *s, unsigned backend, struct error *e)
{
	struct saved_machine m;

	if (snapshot_get(&s->reader, TAG_MACHINE, &m, sizeof(m)) < 0 || m.n_vcpus == 0 ||
		m.n_vcpus > OPTIONS_VCPUS_MAX || m.memory_bytes < OPTIONS_MEMORY_MIN_BYTES ||
		m.memory_bytes > OPTIONS_MEMORY_MAX_BYTES || m.memory_bytes % CHUNK_BYTES)
		return error_set(e, -EINVAL, "the snapshot describes no machine: it is damaged");
	if (m.backend != backend)
		return error_set(e, -EOPNOTSUPP,
			"the snapshot was taken where KVM is %s; here it is %s: a guest cannot go "
			"on "
			"in the middle of a run on another kind",
			host_backend_name((enum host_backend)m.backend),
			host_backend_name((enum host_backend)backend));
	s->memory_bytes = m.memory_bytes;
	s->n_vcpus = m.n_vcpus;
	return 0;
}

int vmm_saved_open(const char *directory, int template_fd, unsigned backend, struct vmm_saved *ret,
	struct error *e)
{
	struct vmm_saved s = {.template_fd = template_fd};
	int r;

	r = read_state(directory, &s, e);
	if (r == 0)
		r = check_machine(&s, backend, e);
	if (r == 0 && s.template_fd < 0)
		r = load_ram(directory, &s, e);
	if (r < 0) {
		vmm_saved_done(&s);
		return r;
	}
	*ret = s;
	return 0;
}

void vmm_saved_done(struct vmm_saved *s)
{
	free(s->bytes);
	s->bytes = NULL;
	cleanup_closep(&s->template_fd);
	s->template_fd = -1;
}

static void enter(struct vmm_snapshot *s, enum vmm_snapshot_phase phase)
{
	atomic_store(&s->phase, phase);
	eventfd_write(s->event_fd, 1);
}

/* With everything quiesced. */
static int write_all(struct vmm_snapshot *s)
{
	struct snapshot_writer w;
	int r;

	snapshot_writer_init(&w);
	r = save(s->vmm, &w, &s->error);
	if (r == 0) {
		r = fd_write_full(s->state_fd, w.bytes, w.size);
		if (r == 0)
			r = guest_ram_save(s->vmm->ram, s->ram_fd, &s->cancel);
		if (r < 0)
			error_set(&s->error, r, "writing the snapshot: %s", strerror(-r));
	}
	snapshot_writer_done(&w);
	return r;
}

static void *thread_main(void *arg)
{
	struct vmm_snapshot *s = arg;

	pthread_setname_np(pthread_self(), "memd-snapshot");
	(void)setpriority(PRIO_PROCESS, 0, 0); /* of this thread: the control loop runs with more */
	pci_bus_quiesce(s->vmm->pci);
	s->result = write_all(s);
	pci_bus_resume(s->vmm->pci);
	enter(s, VMM_SNAPSHOT_WRITTEN);
	if (s->result == 0 && (fdatasync(s->ram_fd) < 0 || fdatasync(s->state_fd) < 0))
		s->result = error_set(
			&s->error, -errno, "writing the snapshot to disk: %s", strerror(errno));
	enter(s, VMM_SNAPSHOT_ENDED);
	return NULL;
}

int vmm_snapshot_init(struct vmm_snapshot *s, struct vmm *vmm)
{
	*s = (struct vmm_snapshot){.vmm = vmm, .state_fd = -1, .ram_fd = -1};
	s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return s->event_fd < 0 ? -errno : 0;
}

int vmm_snapshot_begin(struct vmm_snapshot *s, int state_fd, int ram_fd)
{
	sigset_t all, before;
	int r;

	s->state_fd = state_fd;
	s->ram_fd = ram_fd;
	s->error = (struct error){0};
	atomic_store(&s->phase, VMM_SNAPSHOT_WRITING);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = -pthread_create(&s->thread, NULL, thread_main, s);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r == 0)
		return 0;
	cleanup_closep(&s->state_fd);
	cleanup_closep(&s->ram_fd);
	atomic_store(&s->phase, VMM_SNAPSHOT_NONE);
	return r;
}

int vmm_snapshot_end(struct vmm_snapshot *s, struct error *ret_error)
{
	pthread_join(s->thread, NULL);
	cleanup_closep(&s->state_fd);
	cleanup_closep(&s->ram_fd);
	atomic_store(&s->phase, VMM_SNAPSHOT_NONE);
	*ret_error = s->error;
	return s->result;
}

void vmm_snapshot_done(struct vmm_snapshot *s)
{
	struct error e;

	atomic_store(&s->cancel, true);
	if (atomic_load(&s->phase) != VMM_SNAPSHOT_NONE)
		vmm_snapshot_end(s, &e);
	cleanup_closep(&s->event_fd);
}
