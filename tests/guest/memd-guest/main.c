/*
 * The way from the boot code to the work: ring 0 looks at the machine once, then everything is ring
 * 3.
 */
#include "tests/guest/memd-guest/cmdline.h"
#include "tests/guest/memd-guest/cpu.h"
#include "tests/guest/memd-guest/hostile.h"
#include "tests/guest/memd-guest/line.h"
#include "tests/guest/memd-guest/loaded.h"
#include "tests/guest/memd-guest/memory.h"
#include "tests/guest/memd-guest/smp.h"
#include "tests/guest/memd-guest/time.h"
#include "tests/guest/memd-guest/virtio.h"
#include "tests/guest/memd-guest/workload.h"

void main_boot(const struct start_info *info);

static bool hostile;
static uint64_t workload_ready;

static void other_cpu(void *arg)
{
	if (hostile)
		hostile_run();
	while (!__atomic_load_n(&workload_ready, __ATOMIC_ACQUIRE))
		cpu_relax();
	workload_run(arg);
}

static void main_user(void *arg)
{
	struct cpu *c = arg;
	struct line line = {0};

	line_text(&line, "memd-guest: boot");
	line_value(&line, "vcpus", smp_n_cpus());
	line_value(&line, "ram_mib", memory_ram_bytes() / GUEST_MIB);
	line_value(&line, "virtio_devices", virtio_n_devices());
	line_print(&line);
	smp_timer_start();
	if (cmdline_is("mode", "loaded"))
		loaded_run();
	hostile = cmdline_is("mode", "hostile");
	if (hostile)
		hostile_init();
	smp_start_others(other_cpu);
	if (hostile) {
		hostile_run();
		hostile_finish(smp_n_cpus());
	}
	workload_init(smp_n_cpus());
	__atomic_store_n(&workload_ready, 1, __ATOMIC_RELEASE);
	workload_run(c);
}

/* Ring 0, from boot.S. */
void main_boot(const struct start_info *info)
{
	cpu_init_idt();
	cpu_init(&cpus[0]);
	if (info->magic != START_INFO_MAGIC || !memory_init(info))
		for (;;)
			__asm__ volatile(
				"cli; hlt"); /* no PVH loader: nothing is known of this machine */
	cmdline_init((const char *)info->cmdline);
	time_init();
	smp_init(info);
	virtio_init();
	cpu_run_user(&cpus[0], main_user, &cpus[0]);
}
