/*
 * Text that leaves us: on the bus (which refuses what is no UTF-8), in the journal, on a terminal.
 * Clean text is UTF-8 without control characters, so it is one line and cannot steer a terminal.
 */
#pragma once

#include <stdbool.h>

bool text_is_clean(const char *text);
/*
 * Replaces every byte that keeps the text from being clean, also a sequence cut at its end, by '?'.
 */
void text_clean(char *text);
