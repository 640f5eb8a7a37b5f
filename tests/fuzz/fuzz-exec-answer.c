/* What a program that is a policy may answer. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/helper/helper.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct memd_guest_view guests[2] = {{.size = sizeof(guests[0]), .name = "a", .id = 3},
		{.size = sizeof(guests[0]), .name = "b", .id = 7}};
	const struct memd_guest_view *views[2] = {&guests[0], &guests[1]};
	struct memd_host_view host = {.size = sizeof(host), .n_guests = 2, .guests = views};
	struct memd_proposal proposals[2] = {0}, *list[2] = {&proposals[0], &proposals[1]};
	char *text = malloc(size + 1);
	struct error e = {0};
	int r;

	assert(text);
	memcpy(text, data, size);
	text[size] = '\0';
	r = exec_parse_answer(text, size, &host, list, &e);
	assert(r == 0 || e.text[0]);
	for (size_t i = 0; i < 2; i++)
		assert(memchr(proposals[i].reason, '\0', sizeof(proposals[i].reason)));
	e = (struct error){0};
	r = exec_parse_hello(text, size, &e);
	assert(r == 0 || e.text[0]);
	free(text);
	return 0;
}
