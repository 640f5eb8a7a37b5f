/* The decision (placement.h). */
#include "memd/placement.h"

#include <stdio.h>
#include <string.h>

/* Since when something is so; 0 when it is not. */
static uint64_t since(bool is_so, uint64_t before_us, uint64_t now_us)
{
	if (!is_so)
		return 0;
	return before_us ? before_us : now_us;
}

/* A load that is not known changes nothing. */
static void observe(struct placement *p, uint64_t now_us)
{
	if (p->load_bp == PLACEMENT_LOAD_UNKNOWN)
		return;
	p->busy_since_us = since(p->load_bp >= PLACEMENT_BUSY_BP, p->busy_since_us, now_us);
	p->idle_since_us = since(p->load_bp <= PLACEMENT_IDLE_BP, p->idle_since_us, now_us);
}

static bool lasts(uint64_t since_us, uint64_t us, uint64_t now_us)
{
	return since_us && now_us - since_us >= us;
}

/* Whether it shall have CPUs alone, if there are enough. */
static bool wants_its_own(const struct placement *p, uint64_t now_us)
{
	switch (p->mode) {
	case PLACEMENT_PINNED:
		return true;
	case PLACEMENT_AUTO:
		if (p->exclusive)
			return !lasts(p->idle_since_us, PLACEMENT_IDLE_US, now_us);
		return lasts(p->busy_since_us, PLACEMENT_BUSY_US, now_us);
	case PLACEMENT_SHARED:
		break;
	}
	return false;
}

static void subtract(cpu_set_t *from, const cpu_set_t *what)
{
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, what))
			CPU_CLR(i, from);
}

static bool is_within(const cpu_set_t *part, const cpu_set_t *whole)
{
	cpu_set_t both;

	CPU_AND(&both, part, whole);
	return CPU_EQUAL(&both, part);
}

/* Takes n CPUs out of *free_cpus, from above: devices' interrupts are mostly below. */
static void take(cpu_set_t *free_cpus, unsigned n, cpu_set_t *ret)
{
	CPU_ZERO(ret);
	for (int i = CPU_SETSIZE - 1; i >= 0 && n > 0; i--) {
		if (!CPU_ISSET(i, free_cpus))
			continue;
		CPU_CLR(i, free_cpus);
		CPU_SET(i, ret);
		n--;
	}
}

static void give(struct placement *p, cpu_set_t *free_cpus)
{
	unsigned n_free = (unsigned)CPU_COUNT(free_cpus);

	if (p->n_vcpus >= n_free) {
		snprintf(p->reason, sizeof(p->reason),
			"shared: %u CPUs of its own do not fit (%u are free, one stays for all)",
			p->n_vcpus, n_free);
		return;
	}
	take(free_cpus, p->n_vcpus, &p->cpus);
	p->exclusive = true;
	snprintf(p->reason, sizeof(p->reason), "%s",
		p->mode == PLACEMENT_AUTO ? "pinned: busy" : "pinned, as configured");
}

void placement_decide(
	const cpu_set_t *online, struct placement *const *guests, unsigned n, uint64_t now_us)
{
	cpu_set_t free_cpus = *online;

	for (unsigned i = 0; i < n; i++) {
		struct placement *p = guests[i];

		observe(p, now_us);
		if (p->exclusive && (!wants_its_own(p, now_us) || !is_within(&p->cpus, online)))
			p->exclusive = false;
		if (p->exclusive)
			subtract(&free_cpus, &p->cpus);
		else
			snprintf(p->reason, sizeof(p->reason), "%s",
				p->mode == PLACEMENT_AUTO ? "shared: not busy"
							  : "shared, as configured");
	}
	for (unsigned i = 0; i < n; i++)
		if (!guests[i]->exclusive && wants_its_own(guests[i], now_us))
			give(guests[i], &free_cpus);
	for (unsigned i = 0; i < n; i++)
		if (!guests[i]->exclusive)
			guests[i]->cpus = free_cpus;
}

void placement_text(const cpu_set_t *cpus, char text[PLACEMENT_TEXT_MAX])
{
	size_t used = 0;

	text[0] = '\0';
	for (int first = 0, end; first < CPU_SETSIZE; first = end + 1) {
		char part[24];

		end = first;
		if (!CPU_ISSET(first, cpus))
			continue;
		while (end + 1 < CPU_SETSIZE && CPU_ISSET(end + 1, cpus))
			end++;
		if (end > first)
			snprintf(part, sizeof(part), "%s%d-%d", used ? "," : "", first, end);
		else
			snprintf(part, sizeof(part), "%s%d", used ? "," : "", first);
		if (used + strlen(part) + sizeof(",...") > PLACEMENT_TEXT_MAX) {
			snprintf(text + used, PLACEMENT_TEXT_MAX - used, ",...");
			return;
		}
		used += (size_t)snprintf(text + used, PLACEMENT_TEXT_MAX - used, "%s", part);
	}
}
