/*
 * The agent's port of a virtio console (virtio 1.2, 5.3): bytes to the host and back, polled, one
 * request a queue under way. Without the device everything does nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ring 3. */
void port_init(void);
/* Does what the device waits for. Call it often; it never waits. */
void port_service(void);
/* Whether the host's end is open. */
bool port_is_open(void);
/* Sends at most 4 KiB; false: what was sent before is not taken yet. */
bool port_send(const void *bytes, size_t n);
/* What has come, at most max bytes; 0: nothing. */
size_t port_receive(uint8_t *bytes, size_t max);
/* Closes our end, as the end of a program does. */
void port_close(void);
