/* libvirt's XML of a domain, parts of which its owner wrote. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "memd/libvirt-xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct domain_facts facts;
	struct domain_config config;
	struct error e = {0};

	if (domain_xml_parse((const char *)data, size, &facts, &e) < 0)
		return 0;
	if (facts.memory_bytes < PAGE_BYTES || facts.memory_bytes > CONFIG_MEMORY_MAX ||
		facts.n_vcpus < 1 || facts.n_vcpus > CONFIG_VCPUS_MAX ||
		facts.n_settings > DOMAIN_SETTINGS_MAX ||
		!memchr(facts.agent_socket, '\0', sizeof(facts.agent_socket)))
		abort();
	domain_config_init(&config);
	for (size_t i = 0; i < facts.n_settings; i++)
		(void)domain_config_set(
			&config, facts.settings[i].key, facts.settings[i].value, &e);
	return 0;
}
