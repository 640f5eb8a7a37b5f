/*
 * What memd wants to know of a domain, read from its XML as libvirt gives it (virDomainGetXMLDesc,
 * https://libvirt.org/formatdomain.html). Pure. Parts of the text were written by whoever owns the
 * domain: bounds on everything, no entity of another file, no network.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memd/base/error.h"

#define DOMAIN_XML_MAX	     (4U << 20) /* bytes */
#define DOMAIN_SETTINGS_MAX  16
#define DOMAIN_SETTING_MAX   64 /* with the NUL: a key, and a value */
#define DOMAIN_SOCKET_MAX    108 /* sun_path */
/* Of the element in <metadata>: <memd:guest xmlns:memd="urn:memd1:guest" Manage="yes"/>. */
#define DOMAIN_XML_NAMESPACE "urn:memd1:guest"
#define DOMAIN_XML_ELEMENT   "guest"
#define DOMAIN_AGENT_CHANNEL "org.memd.agent.0"

struct domain_setting {
	char key[DOMAIN_SETTING_MAX];
	char value[DOMAIN_SETTING_MAX];
};

struct domain_facts {
	uint64_t memory_bytes; /* <memory>: what it has without a balloon */
	uint32_t n_vcpus; /* <vcpu>, at most */
	/* <memtune>, 0: not given */
	uint64_t hard_limit_bytes;
	uint64_t min_guarantee_bytes;
	/* <memoryBacking> */
	bool locked;
	bool no_share_pages;
	bool huge_pages;
	bool shared_memory; /* a file or memfd that other processes map, too */
	bool passthrough; /* a device of the host's, which pins all memory */
	bool encrypted; /* <launchSecurity>: the same */
	/* <memballoon> */
	bool balloon;
	bool free_page_reporting;
	uint32_t stats_period_s; /* 0: the guest is not asked for statistics */
	char agent_socket[DOMAIN_SOCKET_MAX]; /* of the channel DOMAIN_AGENT_CHANNEL; "": none */
	/* The attributes of our element in <metadata>, in their order; more than fit are not read. */
	struct domain_setting settings[DOMAIN_SETTINGS_MAX];
	size_t n_settings;
};

/*
 * -EINVAL: no XML, no domain, or without <memory>, *e says which; -E2BIG: longer than
 * DOMAIN_XML_MAX; -ENOMEM. *ret is untouched then.
 */
int domain_xml_parse(const char *text, size_t n, struct domain_facts *ret, struct error *e);
