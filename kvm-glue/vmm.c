/* Puts the machine together (vmm.h) and takes it apart again in the opposite order. */
#include "kvm-glue/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "kvm-glue/boot.h"
#include "memd/base/clock.h"
#include "memd/base/log.h"
#include "memd/base/overflow.h"

/* PCI slots. */
enum {
	SLOT_BALLOON = 1,
	SLOT_CONSOLE = 2,
	SLOT_DEVICES = 4, /* those of options, from here on */
};

static int open_file(const char *path, const char *what, int *ret_fd, struct error *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return error_set(e, -errno, "%s %s: %s", what, path, strerror(errno));
	*ret_fd = fd;
	return 0;
}

static int new_ram(uint64_t memory_bytes, struct guest_ram **ret, struct error *e)
{
	uint64_t low_bytes = u64_min(memory_bytes, MACHINE_LOW_RAM_END);
	struct guest_ram_layout layout[2] = {
		{.gpa = 0, .bytes = low_bytes},
		{.gpa = MACHINE_HIGH_RAM_BASE, .bytes = memory_bytes - low_bytes},
	};

	return guest_ram_new(layout, layout[1].bytes > 0 ? 2 : 1, ret, e);
}

/* Opens the snapshot to go on from; what the options say of the machine must be what it was. */
static int open_saved(struct vmm *vmm, struct error *e)
{
	const struct options *o = vmm->options;
	int r = vmm_saved_open(o->snapshot_path, o->template_fd, vmm->host.backend, &vmm->saved, e);

	if (r < 0)
		return r;
	if ((o->memory_bytes && o->memory_bytes != vmm->saved.memory_bytes) ||
		(o->n_vcpus && o->n_vcpus != vmm->saved.n_vcpus))
		return error_set(e, -EINVAL,
			"snapshot %s: its guest has %s and %u vCPUs, and goes on with no other",
			o->snapshot_path, UNITS_BYTES(vmm->saved.memory_bytes), vmm->saved.n_vcpus);
	vmm->memory_bytes = vmm->saved.memory_bytes;
	vmm->n_vcpus = vmm->saved.n_vcpus;
	return 0;
}

static int lock_ram(const struct vmm *vmm, struct error *e)
{
	const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
	int r;

	setrlimit(RLIMIT_MEMLOCK, &all); /* else within the limit there is */
	r = guest_ram_lock(vmm->ram);
	return r < 0 ? error_set(e, r, "locking %s of guest memory: %s",
			       UNITS_BYTES(vmm->memory_bytes), strerror(-r))
		     : 0;
}

int vmm_open(const struct options *o, struct vmm **ret, struct error *e)
{
	_cleanup_(vmm_freep) struct vmm *vmm = calloc(1, sizeof(*vmm));
	int r;

	if (!vmm)
		return error_set(e, -ENOMEM, "out of memory");
	vmm->options = o;
	vmm->memory_bytes = o->memory_bytes;
	vmm->n_vcpus = o->n_vcpus;
	vmm->host.kvm_fd = vmm->kernel_fd = vmm->initrd_fd = -1;
	vmm->saved.template_fd = vmm->snapshot.event_fd = -1;
	vmm->mappings_max = scanner_mappings_max();
	pthread_mutex_init(&vmm->stop_lock, NULL);
	vmm->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vmm->stop_fd < 0)
		return error_set(e, -errno, "eventfd: %s", strerror(errno));
	r = o->kernel_path ? open_file(o->kernel_path, "kernel", &vmm->kernel_fd, e) : 0;
	if (r < 0)
		return r;
	r = o->initrd_path ? open_file(o->initrd_path, "initrd", &vmm->initrd_fd, e) : 0;
	if (r < 0)
		return r;
	r = console_new(o->console_path, o->console_max_bytes, &vmm->console, e);
	if (r < 0)
		return r;
	r = devices_open(o->devices, o->n_devices, &vmm->devices, e);
	if (r < 0)
		return r;
	r = host_open(&vmm->host, e);
	if (r < 0)
		return r;
	r = o->snapshot_path ? open_saved(vmm, e) : 0;
	if (r < 0)
		return r;
	if (vmm->n_vcpus > vmm->host.vcpus_max)
		return error_set(e, -ERANGE, "--vcpus: KVM of this host allows %u vCPUs, not %u",
			vmm->host.vcpus_max, vmm->n_vcpus);
	r = new_ram(vmm->memory_bytes, &vmm->ram, e);
	if (r == 0 && o->memory_locked)
		r = lock_ram(vmm, e);
	if (r == 0 && o->snapshot_path)
		r = guest_ram_set_template(vmm->ram, vmm->saved.template_fd, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(vmm);
	return 0;
}

/* Whoever ends the guest; the first reason counts. */
static void request_stop(void *context, bool failed, const char *reason)
{
	struct vmm *vmm = context;

	pthread_mutex_lock(&vmm->stop_lock);
	if (!vmm->stop_asked) {
		vmm->stop_asked = true;
		vmm->stop_failed = failed;
		snprintf(vmm->stop_reason, sizeof(vmm->stop_reason), "%s", reason);
	}
	pthread_mutex_unlock(&vmm->stop_lock);
	vcpus_order(vmm->vcpus, VCPUS_PARK);
	eventfd_write(vmm->stop_fd, 1);
}

bool vmm_stopped(struct vmm *vmm, bool *ret_failed, char ret_reason[VMM_REASON_MAX])
{
	bool stopped;

	pthread_mutex_lock(&vmm->stop_lock);
	stopped = vmm->stop_asked;
	if (stopped) {
		*ret_failed = vmm->stop_failed;
		memcpy(ret_reason, vmm->stop_reason, VMM_REASON_MAX);
	}
	pthread_mutex_unlock(&vmm->stop_lock);
	return stopped;
}

static int64_t utc_seconds(void)
{
	return (int64_t)(clock_realtime_us() / US_PER_S);
}

static void console_output(void *context, const uint8_t *data, size_t bytes)
{
	console_write(context, CONSOLE_VIRTIO, data, bytes);
}

static bool console_input_available(void *context)
{
	return console_has_input(context, CONSOLE_VIRTIO);
}

static size_t console_input(void *context, uint8_t *ret, size_t max)
{
	return console_read(context, CONSOLE_VIRTIO, ret, max);
}

static void console_input_ready(void *context)
{
	virtio_console_input_ready(context);
}

static int build_devices(struct vmm *vmm, struct error *e)
{
	struct machine *m = &vmm->vm->machine;
	const char *what = "serial port";
	int r;

	r = serial_new(m, vmm->console, &vmm->serial);
	if (r == 0) {
		what = "clock";
		r = rtc_new(m, utc_seconds, &vmm->rtc);
	}
	if (r == 0) {
		what = "keyboard controller";
		r = i8042_new(m, &vmm->keyboard);
	}
	if (r == 0) {
		what = "power management";
		r = acpi_pm_new(m, &vmm->pm);
	}
	if (r == 0) {
		what = "panic device";
		r = pvpanic_new(m, &vmm->panic);
	}
	if (r == 0) {
		what = "PCI bus";
		r = pci_bus_new(m, &vmm->pci);
	}
	if (r == 0) {
		what = "balloon";
		r = virtio_balloon_new(m, vmm->pci, SLOT_BALLOON, &vmm->balloon);
	}
	if (r == 0) {
		what = "virtio console";
		r = virtio_console_new(m, vmm->pci, SLOT_CONSOLE, console_output, vmm->console, -1,
			&vmm->virtio_console);
	}
	if (r == 0) {
		what = "console";
		virtio_console_set_input(
			vmm->virtio_console, console_input_available, console_input);
		console_listen(
			vmm->console, CONSOLE_VIRTIO, console_input_ready, vmm->virtio_console);
		r = console_run(vmm->console);
	}
	if (r < 0)
		return error_set(e, r, "making the %s: %s", what, strerror(-r));
	return devices_plug(vmm->devices, m, vmm->pci, SLOT_DEVICES, e);
}

static int load_guest(struct vmm *vmm, struct error *e)
{
	const struct options *o = vmm->options;
	char cmdline[BOOT_CMDLINE_MAX];
	struct boot_request request = {
		.protocol = o->boot,
		.kernel_fd = vmm->kernel_fd,
		.initrd_fd = vmm->initrd_fd,
		.kernel_path = o->kernel_path,
		.initrd_path = o->initrd_path,
		.cmdline = o->cmdline,
		.rsdp_gpa = BOOT_ACPI_GPA,
		.backend = vmm->host.backend,
	};
	int r;

	if (acpi_tables_write(guest_ram_ptr(vmm->ram, GPA(BOOT_ACPI_GPA), BOOT_ACPI_BYTES),
		    BOOT_ACPI_GPA, BOOT_ACPI_BYTES, vmm->n_vcpus) < 0)
		return error_set(e, -ENOSPC, "no room for the ACPI tables");
	r = boot_guest(&request, vmm->ram, vmm->vcpus->vcpus[0].fd, cmdline, e);
	if (r < 0)
		return r;
	log_info("kernel %s, command line: %s", o->kernel_path, cmdline);
	if (strcmp(cmdline, o->cmdline) != 0)
		log_info("this host's KVM is %s, which emulates ring 0: the Linux command line was "
			 "extended for it",
			host_backend_name(vmm->host.backend));
	cleanup_closep(&vmm->kernel_fd);
	cleanup_closep(&vmm->initrd_fd);
	vmm->kernel_fd = vmm->initrd_fd = -1;
	return 0;
}

/* A guest runs as well without. */
static void open_kvm_stats(struct vmm *vmm)
{
	_cleanup_free_ int *fds = calloc(vmm->n_vcpus, sizeof(*fds));
	int r = fds ? 0 : -ENOMEM;

	for (unsigned i = 0; r == 0 && i < vmm->n_vcpus; i++)
		fds[i] = vmm->vcpus->vcpus[i].fd;
	if (r == 0)
		r = kvm_stats_new(vmm->vm->fd, fds, vmm->n_vcpus, &vmm->kvm_stats);
	if (r < 0)
		log_info("KVM's own statistics are not to be had: %s", strerror(-r));
}

int vmm_build(struct vmm *vmm, struct error *e)
{
	int r;

	r = bus_new(&vmm->bus);
	if (r < 0)
		return error_set(e, r, "out of memory");
	r = vm_new(&vmm->host, vmm->ram, vmm->bus, request_stop, vmm, &vmm->vm, e);
	if (r < 0)
		return r;
	r = vcpus_new(vmm->vm, vmm->n_vcpus, vmm->options->cpu_features, &vmm->vcpus, e);
	if (r < 0)
		return r;
	open_kvm_stats(vmm);
	r = dirty_log_new(vmm->vm, vmm->vcpus, &vmm->dirty_log);
	if (r < 0)
		return error_set(e, r, "making the dirty log: %s", strerror(-r));
	vmm->vm->machine.log = dirty_log_writes(vmm->dirty_log);
	r = build_devices(vmm, e);
	if (r < 0)
		return r;
	r = vmm->options->snapshot_path ? vmm_restore(vmm, &vmm->saved, e) : load_guest(vmm, e);
	if (r < 0)
		return r;
	r = vmm_snapshot_init(&vmm->snapshot, vmm);
	if (r < 0)
		return error_set(e, r, "eventfd: %s", strerror(-r));
	r = scanner_new(vmm->ram, vmm->mappings_max, &vmm->scanner, e);
	if (r < 0)
		return r;
	vmm->vcpus->devices = vmm->devices;
	return vcpus_start(vmm->vcpus, e);
}

void vmm_free(struct vmm *vmm)
{
	if (!vmm)
		return;
	vmm_snapshot_done(&vmm->snapshot);
	vcpus_join(vmm->vcpus);
	scanner_free(vmm->scanner);
	if (vmm->console)
		console_halt(vmm->console);
	devices_free(vmm->devices);
	virtio_console_free(vmm->virtio_console);
	virtio_balloon_free(vmm->balloon);
	pci_bus_free(vmm->pci);
	pvpanic_free(vmm->panic);
	acpi_pm_free(vmm->pm);
	i8042_free(vmm->keyboard);
	rtc_free(vmm->rtc);
	serial_free(vmm->serial);
	dirty_log_free(vmm->dirty_log);
	kvm_stats_free(vmm->kvm_stats);
	vcpus_free(vmm->vcpus); /* only now: devices may still ask for a stop */
	vm_free(vmm->vm);
	bus_free(vmm->bus);
	guest_ram_free(vmm->ram);
	vmm_saved_done(&vmm->saved);
	host_close(&vmm->host);
	console_free(vmm->console);
	cleanup_closep(&vmm->kernel_fd);
	cleanup_closep(&vmm->initrd_fd);
	cleanup_closep(&vmm->stop_fd);
	pthread_mutex_destroy(&vmm->stop_lock);
	free(vmm);
}
