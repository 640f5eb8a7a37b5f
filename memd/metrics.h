/*
 * What memd knows, as OpenMetrics text (or Prometheus' older format). Tables and text only: who asks,
 * and how, is metrics-server.c's.
 */
#pragma once

#include <stdio.h>

struct manager;

enum metrics_format {
	METRICS_OPENMETRICS, /* openmetrics.io 1.0 */
	METRICS_PROMETHEUS, /* text format 0.0.4: names with their suffix, no units, no end mark */
};
#define METRICS_FORMATS 2

void metrics_print(FILE *f, const struct manager *m, enum metrics_format format);
