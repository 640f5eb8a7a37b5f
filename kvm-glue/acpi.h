/*
 * ACPI: the tables that tell the guest what the machine is (acpi-tables.c), and the fixed hardware that they describe
 * (acpi-pm.c): power button, sleep control, timer.
 */
#pragma once

#include <stdint.h>

#include "kvm-glue/machine.h"
#include "kvm-glue/snapshot.h"

/* Fixed hardware registers, I/O ports (ACPI 6.4, 4.8). Those that QEMU's machines use, too. */
#define ACPI_PM1_EVENT_PORT   0x600 /* status and enable, 2 bytes each */
#define ACPI_PM1_CONTROL_PORT 0x604 /* 2 bytes */
#define ACPI_PM_TIMER_PORT    0x608 /* 4 bytes */
#define ACPI_SCI_GSI	      9
#define ACPI_SLEEP_TYPE_S5    5 /* what _S5 says */
#define ACPI_RESET_PORT	      0xcf9 /* pci.c has it */
#define ACPI_RESET_VALUE      6

/*
 * Writes RSDP, XSDT, MADT, FADT, FACS and DSDT for n_vcpus into `bytes` of zeroed memory that the guest sees at gpa, RSDP
 * first. Returns the bytes used, or -ENOSPC.
 */
int64_t acpi_tables_write(uint8_t *memory, uint64_t gpa, uint64_t bytes, unsigned n_vcpus);

struct acpi_pm;

/* m outlives it. An errno of bus_add. */
int acpi_pm_new(struct machine *m, struct acpi_pm **ret);
/* After vCPUs have stopped. NULL is allowed. */
void acpi_pm_free(struct acpi_pm *pm);
DEFINE_CLEANUP(struct acpi_pm *, acpi_pm_free)
/*
 * Presses the power button. 0, or -EAGAIN when the guest has not enabled its event (no ACPI driver, or not yet): it is
 * remembered until it does.
 */
int acpi_pm_power_button(struct acpi_pm *pm);
/* vCPUs stand still. restore: -EINVAL. */
void acpi_pm_save(struct acpi_pm *pm, struct snapshot_writer *w);
int acpi_pm_restore(struct acpi_pm *pm, struct snapshot_reader *r);
