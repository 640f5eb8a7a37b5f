/* ACPI fixed hardware (ACPI 6.4, 4.8.2 to 4.8.3): PM1 event and control registers, PM timer. */
#include "kvm-glue/acpi.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "memd/base/clock.h"

enum {
	PM1_STATUS = 0, /* offsets from ACPI_PM1_EVENT_PORT */
	PM1_ENABLE = 2,
	EVENT_BYTES = 4,
	CONTROL_BYTES = 2,
	TIMER_BYTES = 4,

	EVENT_POWER_BUTTON = 1 << 8, /* in both */
	EVENT_ALL = 0x8721, /* those that the specification defines */
	CONTROL_SCI_ENABLED = 1 << 0,
	CONTROL_SLEEP_TYPE_SHIFT = 10,
	CONTROL_SLEEP_ENABLE = 1 << 13,
	CONTROL_WRITABLE = 0x1c02, /* SLP_TYP, BM_RLD; SLP_EN reads as 0 */
};

#define PM_TIMER_HZ UINT64_C(3579545)

#define TAG_PM SNAPSHOT_TAG('a', 'c', 'p', 'm')

struct saved_pm {
	uint16_t status;
	uint16_t enable;
	uint16_t control;
	uint16_t reserved;
};

struct acpi_pm {
	struct machine *machine;
	struct bus_range *event_ports;
	struct bus_range *control_ports;
	struct bus_range *timer_ports;
	pthread_mutex_t lock; /* what follows */
	uint16_t status;
	uint16_t enable;
	uint16_t control;
	bool sci_level;
};

static void update_sci(struct acpi_pm *pm)
{
	bool level = pm->status & pm->enable;

	if (level == pm->sci_level)
		return;
	pm->sci_level = level;
	pm->machine->ops->irq_line(pm->machine, ACPI_SCI_GSI, level);
}

static void event_read(void *device, uint64_t offset, uint8_t *data, unsigned size)
{
	struct acpi_pm *pm = device;
	uint16_t registers[2];

	pthread_mutex_lock(&pm->lock);
	registers[0] = pm->status;
	registers[1] = pm->enable;
	pthread_mutex_unlock(&pm->lock);
	memcpy(data, (const uint8_t *)registers + offset, size);
}

/* Status bits are cleared by writing ones; enable bits are stored. */
static void event_write(void *device, uint64_t offset, const uint8_t *data, unsigned size)
{
	struct acpi_pm *pm = device;
	uint8_t clear[EVENT_BYTES] = {0};
	uint16_t registers[2];

	pthread_mutex_lock(&pm->lock);
	registers[0] = 0;
	registers[1] = pm->enable;
	memcpy(clear, registers, sizeof(registers));
	memcpy(clear + offset, data, size);
	memcpy(registers, clear, sizeof(registers));
	pm->status &= (uint16_t)~registers[0];
	pm->enable = registers[1] & EVENT_ALL;
	update_sci(pm);
	pthread_mutex_unlock(&pm->lock);
}

static void control_read(void *device, uint64_t offset, uint8_t *data, unsigned size)
{
	struct acpi_pm *pm = device;
	uint16_t value;

	pthread_mutex_lock(&pm->lock);
	value = pm->control | CONTROL_SCI_ENABLED;
	pthread_mutex_unlock(&pm->lock);
	memcpy(data, (const uint8_t *)&value + offset, size);
}

static void control_write(void *device, uint64_t offset, const uint8_t *data, unsigned size)
{
	struct acpi_pm *pm = device;
	uint16_t value;
	bool power_off;

	pthread_mutex_lock(&pm->lock);
	value = pm->control;
	memcpy((uint8_t *)&value + offset, data, size);
	power_off = (value & CONTROL_SLEEP_ENABLE) &&
		    (value >> CONTROL_SLEEP_TYPE_SHIFT & 7) == ACPI_SLEEP_TYPE_S5;
	pm->control = value & CONTROL_WRITABLE;
	pthread_mutex_unlock(&pm->lock);
	if (power_off)
		pm->machine->ops->request_stop(pm->machine, false, "powered off by the guest");
}

static void timer_read(void *device, uint64_t offset, uint8_t *data, unsigned size)
{
	uint64_t us = clock_monotonic_us();
	uint32_t ticks = (uint32_t)((unsigned __int128)us * PM_TIMER_HZ / US_PER_S);

	memcpy(data, (const uint8_t *)&ticks + offset, size);
}

static void timer_write(void *device, uint64_t offset, const uint8_t *data, unsigned size)
{
}

static const struct bus_ops event_ops = {.read = event_read, .write = event_write};
static const struct bus_ops control_ops = {.read = control_read, .write = control_write};
static const struct bus_ops timer_ops = {.read = timer_read, .write = timer_write};

int acpi_pm_new(struct machine *m, struct acpi_pm **ret)
{
	_cleanup_(acpi_pm_freep) struct acpi_pm *pm = calloc(1, sizeof(*pm));
	int r;

	if (!pm)
		return -ENOMEM;
	pthread_mutex_init(&pm->lock, NULL);
	pm->machine = m;
	r = bus_add(m->bus, BUS_PIO, ACPI_PM1_EVENT_PORT, EVENT_BYTES, &event_ops, pm, "pm1-event",
		&pm->event_ports);
	if (r == 0)
		r = bus_add(m->bus, BUS_PIO, ACPI_PM1_CONTROL_PORT, CONTROL_BYTES, &control_ops, pm,
			"pm1-control", &pm->control_ports);
	if (r == 0)
		r = bus_add(m->bus, BUS_PIO, ACPI_PM_TIMER_PORT, TIMER_BYTES, &timer_ops, pm,
			"pm-timer", &pm->timer_ports);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(pm);
	return 0;
}

void acpi_pm_free(struct acpi_pm *pm)
{
	if (!pm)
		return;
	if (pm->event_ports)
		bus_move(pm->machine->bus, pm->event_ports, ACPI_PM1_EVENT_PORT, false);
	if (pm->control_ports)
		bus_move(pm->machine->bus, pm->control_ports, ACPI_PM1_CONTROL_PORT, false);
	if (pm->timer_ports)
		bus_move(pm->machine->bus, pm->timer_ports, ACPI_PM_TIMER_PORT, false);
	pthread_mutex_destroy(&pm->lock);
	free(pm);
}

int acpi_pm_power_button(struct acpi_pm *pm)
{
	bool enabled;

	pthread_mutex_lock(&pm->lock);
	pm->status |= EVENT_POWER_BUTTON;
	enabled = pm->enable & EVENT_POWER_BUTTON;
	update_sci(pm);
	pthread_mutex_unlock(&pm->lock);
	return enabled ? 0 : -EAGAIN;
}

void acpi_pm_save(struct acpi_pm *pm, struct snapshot_writer *w)
{
	struct saved_pm saved;

	pthread_mutex_lock(&pm->lock);
	saved = (struct saved_pm){
		.status = pm->status, .enable = pm->enable, .control = pm->control};
	pthread_mutex_unlock(&pm->lock);
	snapshot_put(w, TAG_PM, &saved, sizeof(saved));
}

int acpi_pm_restore(struct acpi_pm *pm, struct snapshot_reader *r)
{
	struct saved_pm saved;

	if (snapshot_get(r, TAG_PM, &saved, sizeof(saved)) < 0)
		return -EINVAL;
	pthread_mutex_lock(&pm->lock);
	pm->status = saved.status & EVENT_ALL;
	pm->enable = saved.enable & EVENT_ALL;
	pm->control = saved.control & CONTROL_WRITABLE;
	update_sci(pm);
	pthread_mutex_unlock(&pm->lock);
	return 0;
}
