/* The one file that reads XML; see libvirt-xml.h. */
#include "memd/libvirt-xml.h"

#include <libxml/parser.h>
#include <stdio.h>
#include <string.h>

#include "config/config.h"
#include "memd/base/units.h"

static bool is_element(const xmlNode *node, const char *name)
{
	return node->type == XML_ELEMENT_NODE && strcmp((const char *)node->name, name) == 0;
}

/* The first child of that name, NULL for none; parent may be NULL. */
static xmlNode *child_of(const xmlNode *parent, const char *name)
{
	for (xmlNode *node = parent ? parent->children : NULL; node; node = node->next)
		if (is_element(node, name))
			return node;
	return NULL;
}

/* The value of an attribute, cut to fit; "" when there is none. node may be NULL. */
static void attribute(const xmlNode *node, const char *name, char *ret, size_t size)
{
	xmlChar *text = node ? xmlGetNoNsProp(node, (const xmlChar *)name) : NULL;

	snprintf(ret, size, "%s", text ? (const char *)text : "");
	xmlFree(text);
}

static bool attribute_is(const xmlNode *node, const char *name, const char *value)
{
	char text[DOMAIN_SETTING_MAX];

	attribute(node, name, text, sizeof(text));
	return strcmp(text, value) == 0;
}

/* A decimal number and nothing else but spaces around it; false otherwise. */
static bool parse_number(const char *text, uint64_t *ret)
{
	char *end;

	text += strspn(text, " \t\r\n");
	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	*ret = strtoull(text, &end, 10);
	return errno == 0 && end[strspn(end, " \t\r\n")] == '\0';
}

static bool number_in(const xmlNode *node, uint64_t *ret)
{
	xmlChar *text = node ? xmlNodeGetContent(node) : NULL;
	bool good = text && parse_number((const char *)text, ret);

	xmlFree(text);
	return good;
}

/* https://libvirt.org/formatdomain.html#memory-allocation: KiB unless said otherwise. */
static bool bytes_in(const xmlNode *node, uint64_t *ret)
{
	static const struct {
		const char *unit;
		uint64_t bytes;
	} units[] = {
		{"", 1024},
		{"b", 1},
		{"bytes", 1},
		{"KB", 1000},
		{"k", 1024},
		{"KiB", 1024},
		{"MB", 1000000},
		{"M", MIB},
		{"MiB", MIB},
		{"GB", 1000000000},
		{"G", GIB},
		{"GiB", GIB},
		{"TB", 1000000000000},
		{"T", 1024 * GIB},
		{"TiB", 1024 * GIB},
	};
	char unit[8];
	uint64_t n;

	if (!number_in(node, &n))
		return false;
	attribute(node, "unit", unit, sizeof(unit));
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(unit, units[i].unit) != 0)
			continue;
		return !__builtin_mul_overflow(n, units[i].bytes, ret);
	}
	return false;
}

static void read_memtune(const xmlNode *domain, struct domain_facts *f)
{
	const xmlNode *memtune = child_of(domain, "memtune");
	uint64_t bytes;

	/* libvirt shows "no limit" as a number near 2^63. */
	if (bytes_in(child_of(memtune, "hard_limit"), &bytes) && bytes < CONFIG_MEMORY_MAX)
		f->hard_limit_bytes = bytes;
	if (bytes_in(child_of(memtune, "min_guarantee"), &bytes) && bytes < CONFIG_MEMORY_MAX)
		f->min_guarantee_bytes = bytes;
}

static void read_backing(const xmlNode *domain, struct domain_facts *f)
{
	const xmlNode *backing = child_of(domain, "memoryBacking");

	f->locked = child_of(backing, "locked");
	f->no_share_pages = child_of(backing, "nosharepages");
	f->huge_pages = child_of(backing, "hugepages");
	f->shared_memory = attribute_is(child_of(backing, "access"), "mode", "shared");
}

/* Devices behind VFIO; USB devices and SCSI disks of the host pin nothing. */
static bool pins_memory(const xmlNode *device)
{
	if (is_element(device, "hostdev"))
		return attribute_is(device, "type", "pci") || attribute_is(device, "type", "mdev");
	if (is_element(device, "interface"))
		return attribute_is(device, "type", "hostdev") ||
		       attribute_is(device, "type", "vdpa");
	return is_element(device, "disk") && attribute_is(device, "type", "nvme");
}

static void read_balloon(const xmlNode *balloon, struct domain_facts *f)
{
	char period[16];
	uint64_t s;

	f->balloon = attribute_is(balloon, "model", "virtio") ||
		     attribute_is(balloon, "model", "virtio-transitional") ||
		     attribute_is(balloon, "model", "virtio-non-transitional");
	f->free_page_reporting = attribute_is(balloon, "freePageReporting", "on");
	attribute(child_of(balloon, "stats"), "period", period, sizeof(period));
	if (parse_number(period, &s) && s <= INT32_MAX)
		f->stats_period_s = (uint32_t)s;
}

static void read_channel(const xmlNode *channel, struct domain_facts *f)
{
	if (attribute_is(channel, "type", "unix") &&
		attribute_is(child_of(channel, "target"), "name", DOMAIN_AGENT_CHANNEL))
		attribute(child_of(channel, "source"), "path", f->agent_socket,
			sizeof(f->agent_socket));
}

static void read_devices(const xmlNode *domain, struct domain_facts *f)
{
	const xmlNode *devices = child_of(domain, "devices");

	for (const xmlNode *d = devices ? devices->children : NULL; d; d = d->next) {
		if (d->type != XML_ELEMENT_NODE)
			continue;
		f->passthrough |= pins_memory(d);
		if (is_element(d, "memballoon"))
			read_balloon(d, f);
		else if (is_element(d, "channel"))
			read_channel(d, f);
	}
}

static void read_settings(const xmlNode *domain, struct domain_facts *f)
{
	const xmlNode *metadata = child_of(domain, "metadata");

	for (const xmlNode *n = metadata ? metadata->children : NULL; n; n = n->next) {
		if (!is_element(n, DOMAIN_XML_ELEMENT) || !n->ns || !n->ns->href ||
			strcmp((const char *)n->ns->href, DOMAIN_XML_NAMESPACE) != 0)
			continue;
		for (const xmlAttr *a = n->properties; a; a = a->next) {
			struct domain_setting *s = &f->settings[f->n_settings];

			if (f->n_settings == DOMAIN_SETTINGS_MAX)
				return;
			snprintf(s->key, sizeof(s->key), "%s", (const char *)a->name);
			attribute(n, s->key, s->value, sizeof(s->value));
			f->n_settings++;
		}
		return;
	}
}

static int read_domain(const xmlNode *domain, struct domain_facts *ret, struct error *e)
{
	struct domain_facts f = {0};
	uint64_t n;

	if (!domain || !is_element(domain, "domain"))
		return error_set(e, -EINVAL, "libvirt's XML is of no domain");
	if (!bytes_in(child_of(domain, "memory"), &f.memory_bytes) || f.memory_bytes < PAGE_BYTES ||
		f.memory_bytes > CONFIG_MEMORY_MAX)
		return error_set(e, -EINVAL, "libvirt's XML of the domain says no <memory>");
	f.n_vcpus = number_in(child_of(domain, "vcpu"), &n) && n >= 1 && n <= CONFIG_VCPUS_MAX
			    ? (uint32_t)n
			    : 1;
	f.encrypted = child_of(domain, "launchSecurity");
	read_memtune(domain, &f);
	read_backing(domain, &f);
	read_devices(domain, &f);
	read_settings(domain, &f);
	*ret = f;
	return 0;
}

int domain_xml_parse(const char *text, size_t n, struct domain_facts *ret, struct error *e)
{
	xmlDoc *doc;
	int r;

	if (n > DOMAIN_XML_MAX)
		return error_set(e, -E2BIG, "libvirt's XML of the domain has %zu bytes", n);
	/* Entities are not expanded (no XML_PARSE_NOENT), and depth is bounded (no XML_PARSE_HUGE). */
	doc = xmlReadMemory(text, (int)n, NULL, NULL,
		XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	if (!doc)
		return error_set(e, -EINVAL, "what libvirt gave for the domain is no XML");
	r = read_domain(xmlDocGetRootElement(doc), ret, e);
	xmlFreeDoc(doc);
	return r;
}
