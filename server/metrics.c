#include "server/metrics.h"

#include "base/buf.h"
#include "base/limits.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX (256u * 1024)

static const struct {
	const char *name;
	bool gauge;
	const char *help;
} rows[METRIC_COUNT] = {
	[METRIC_HTTP_REQUESTS] = { "http_requests", false, "API requests answered" },
	[METRIC_HTTP_ERRORS] = { "http_errors", false, "API requests answered with a 5xx status" },
	[METRIC_AUTH_DENIED] = { "auth_denied", false, "credentials refused" },
	[METRIC_POLICY_DENIED] = { "policy_denied", false, "requests refused by policy" },
	[METRIC_SESSIONS_STARTED] = { "sessions_started", false, "sessions started" },
	[METRIC_SESSIONS_RESUMED] = { "sessions_resumed", false, "sessions taken over by a new client" },
	[METRIC_SESSIONS_ENDED] = { "sessions_ended", false, "sessions ended" },
	[METRIC_LEGS_ATTACHED] = { "legs_attached", false, "session legs let in" },
	[METRIC_LEGS_REFUSED] = { "legs_refused", false, "session legs refused" },
	[METRIC_AGENTS_CONNECTED] = { "agents_connected", true, "agents with a control connection to this node" },
	[METRIC_LEGS_OPEN] = { "legs_open", true, "session legs open on this node" },
	[METRIC_SESSIONS_LIVE] = { "sessions_live", true, "sessions that have not ended" },
	[METRIC_RELAY_BYTES] = { "relay_bytes", false, "payload bytes relayed" },
	[METRIC_RELAY_PAUSES] = { "relay_pauses", false, "times a leg was not read because its peer was slow" },
	[METRIC_POOL_REJECTED] = { "pool_rejected", false, "jobs refused because their worker queue was full" },
	[METRIC_AUDIT_WAITING] = { "audit_waiting", true, "audit records that wait to be written" },
	[METRIC_AUDIT_LOST] = { "audit_lost", false, "audit records that are in the server's log alone" },
	[METRIC_AUDIT_EXPORT_BEHIND] = { "audit_export_behind", true,
					 "audit records that an export lacks because it cannot be written" },
};

struct plugin_counter {
	char name[160]; /* complete */
	uint64_t value;
};

struct metrics {
	_Atomic int64_t values[METRIC_COUNT];
	pthread_mutex_t lock; /* guards what follows */
	struct plugin_counter plugin[LIMIT_PLUGIN_METRICS];
	size_t plugin_count;
};

struct metrics *metrics_new(void)
{
	struct metrics *m = calloc(1, sizeof *m);
	if (m)
		pthread_mutex_init(&m->lock, NULL);
	return m;
}

void metrics_free(struct metrics **m)
{
	if (!m || !*m)
		return;
	pthread_mutex_destroy(&(*m)->lock);
	free(*m);
	*m = NULL;
}

void metrics_add(struct metrics *m, enum metric id, int64_t n)
{
	atomic_fetch_add_explicit(&m->values[id], n, memory_order_relaxed);
}

void metrics_set(struct metrics *m, enum metric id, int64_t value)
{
	atomic_store_explicit(&m->values[id], value, memory_order_relaxed);
}

int64_t metrics_get(struct metrics *m, enum metric id)
{
	return atomic_load_explicit(&m->values[id], memory_order_relaxed);
}

static struct plugin_counter *find_or_add(struct metrics *m, const char *name)
{
	for (size_t i = 0; i < m->plugin_count; i++)
		if (strcmp(m->plugin[i].name, name) == 0)
			return &m->plugin[i];
	if (m->plugin_count == LIMIT_PLUGIN_METRICS)
		return NULL;
	struct plugin_counter *c = &m->plugin[m->plugin_count++];
	snprintf(c->name, sizeof c->name, "%s", name);
	return c;
}

void metrics_plugin_add(struct metrics *m, const char *plugin, const char *name, uint64_t n)
{
	char full[sizeof m->plugin[0].name];
	if ((size_t)snprintf(full, sizeof full, "tunnel_plugin_%s_%s_total", plugin, name) >= sizeof full)
		return;
	for (char *c = full; *c; c++) /* plugin names have "-", metric names may not */
		if (*c == '-')
			*c = '_';
	pthread_mutex_lock(&m->lock);
	struct plugin_counter *c = find_or_add(m, full);
	if (c)
		c->value += n;
	pthread_mutex_unlock(&m->lock);
}

char *metrics_text(struct metrics *m)
{
	struct buf b = BUF_INIT(TEXT_MAX);
	int rc = 0;
	for (size_t i = 0; i < METRIC_COUNT; i++) {
		const char *tail = rows[i].gauge ? "" : "_total";
		rc |= buf_printf(&b, "# HELP tunnel_%s%s %s\n# TYPE tunnel_%s%s %s\ntunnel_%s%s %" PRId64 "\n",
				 rows[i].name, tail, rows[i].help, rows[i].name, tail,
				 rows[i].gauge ? "gauge" : "counter", rows[i].name, tail,
				 metrics_get(m, (enum metric)i));
	}
	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < m->plugin_count; i++)
		rc |= buf_printf(&b, "# TYPE %s counter\n%s %" PRIu64 "\n", m->plugin[i].name, m->plugin[i].name,
				 m->plugin[i].value);
	pthread_mutex_unlock(&m->lock);
	char *text = rc == 0 ? buf_take_text(&b) : NULL;
	buf_free(&b);
	return text;
}
