/* Counters, gauges and histograms, printed as Prometheus text (docs/metrics.md lists them). Any thread. */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include <stdint.h>

struct metrics;

/* One row a metric in metrics.c; names are tunnel_<id>, and counters end in _total. */
enum metric {
	METRIC_HTTP_REQUESTS,
	METRIC_HTTP_ERRORS,
	METRIC_AUTH_DENIED,
	METRIC_AUTH_LIMITED,
	METRIC_CONNECTIONS_REFUSED,
	METRIC_POLICY_DENIED,
	METRIC_SESSIONS_STARTED,
	METRIC_SESSIONS_RESUMED,
	METRIC_SESSIONS_ENDED,
	METRIC_LEGS_ATTACHED,
	METRIC_LEGS_REFUSED,
	METRIC_AGENTS_CONNECTED,  /* gauge */
	METRIC_LEGS_OPEN,         /* gauge */
	METRIC_SESSIONS_LIVE,     /* gauge */
	METRIC_SESSIONS_STARTING, /* gauge */
	METRIC_SESSIONS_ACTIVE,   /* gauge */
	METRIC_RELAY_TO_TARGET,
	METRIC_RELAY_TO_CLIENT,
	METRIC_RELAY_PAUSES,
	METRIC_POOL_REJECTED,
	METRIC_POOL_QUEUED, /* gauge */
	METRIC_AUDIT_RECORDS,
	METRIC_AUDIT_WAITING, /* gauge */
	METRIC_AUDIT_LOST,
	METRIC_AUDIT_EXPORT_BEHIND, /* gauge */
	METRIC_COUNT,
};

/* Those of which there is one for each value of their labels. */
enum metric_family {
	FAMILY_AUTH,          /* counter; provider, outcome */
	FAMILY_PLUGIN_CALL,   /* histogram of seconds; plugin */
	FAMILY_REACTOR_DELAY, /* histogram of seconds; reactor */
	FAMILY_COUNT,
};

struct metrics *metrics_new(void);
void metrics_free(struct metrics **m);
void metrics_add(struct metrics *m, enum metric id, int64_t n);
void metrics_set(struct metrics *m, enum metric id, int64_t value);
int64_t metrics_get(struct metrics *m, enum metric id);
/* labels: 'provider="auth-jwt",outcome="accepted"', made of names of ours, nothing that a stranger sent; at most 128 of
 * all families together, further ones are dropped. */
void metrics_count(struct metrics *m, enum metric_family family, const char *labels);
void metrics_observe_us(struct metrics *m, enum metric_family family, const char *labels, int64_t us);
/* For plugins: tunnel_plugin_<plugin>_<name>_total, at most 64 names; further ones are dropped. */
void metrics_plugin_add(struct metrics *m, const char *plugin, const char *name, uint64_t n);
char *metrics_text(struct metrics *m); /* malloc'd */

#endif
