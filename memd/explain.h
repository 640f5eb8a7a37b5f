/*
 * Why a guest's target is what it is, in sentences with numbers, from a frame of the journal: so what
 * is said is what was recorded. Pure: no clock, no file.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "memd/journal-record.h"

/*
 * Writes sentences, each ended by "\n". `now_us` (since 1970) tells how old the record is; chosen:
 * the configured policy's name.
 */
void explain_guest(FILE *out, const struct journal_record *record,
	const struct journal_record_guest *guest, const char *chosen, uint64_t now_us);
