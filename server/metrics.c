#include "server/metrics.h"

#include "base/buf.h"
#include "base/limits.h"
#include "server/metrics_process.h"

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
	const char *labels; /* rows of one name stand together */
} rows[METRIC_COUNT] = {
	[METRIC_HTTP_REQUESTS] = { "http_requests", false, "API requests answered", NULL },
	[METRIC_HTTP_ERRORS] = { "http_errors", false, "API requests answered with a 5xx status", NULL },
	[METRIC_AUTH_DENIED] = { "auth_denied", false, "credentials refused", NULL },
	[METRIC_AUTH_LIMITED] = { "auth_limited", false,
				  "callers held up because too many credentials of theirs were refused", NULL },
	[METRIC_CONNECTIONS_REFUSED] = { "connections_refused", false,
					 "connections closed at once because too many strangers have one", NULL },
	[METRIC_POLICY_DENIED] = { "policy_denied", false, "requests refused by policy", NULL },
	[METRIC_SESSIONS_STARTED] = { "sessions_started", false, "sessions started", NULL },
	[METRIC_SESSIONS_RESUMED] = { "sessions_resumed", false, "sessions taken over by a new client", NULL },
	[METRIC_SESSIONS_ENDED] = { "sessions_ended", false, "sessions ended", NULL },
	[METRIC_LEGS_ATTACHED] = { "legs_attached", false, "session legs let in", NULL },
	[METRIC_LEGS_REFUSED] = { "legs_refused", false, "session legs refused", NULL },
	[METRIC_AGENTS_CONNECTED] = { "agents_connected", true, "agents with a control connection to this node", NULL },
	[METRIC_LEGS_OPEN] = { "legs_open", true, "session legs open on this node", NULL },
	[METRIC_SESSIONS_LIVE] = { "sessions_live", true, "sessions that have not ended", NULL },
	[METRIC_SESSIONS_STARTING] = { "sessions", true, "sessions of this node, by state", "state=\"starting\"" },
	[METRIC_SESSIONS_ACTIVE] = { "sessions", true, "sessions of this node, by state", "state=\"active\"" },
	[METRIC_RELAY_TO_TARGET] = { "relay_bytes", false, "payload bytes relayed", "direction=\"to_target\"" },
	[METRIC_RELAY_TO_CLIENT] = { "relay_bytes", false, "payload bytes relayed", "direction=\"to_client\"" },
	[METRIC_RELAY_PAUSES] = { "relay_pauses", false, "times a leg was not read because its peer was slow", NULL },
	[METRIC_POOL_REJECTED] = { "pool_rejected", false, "jobs refused because their worker queue was full", NULL },
	[METRIC_POOL_QUEUED] = { "pool_queued", true, "jobs that wait for a worker", NULL },
	[METRIC_AUDIT_RECORDS] = { "audit_records", false, "audit records that the store has taken", NULL },
	[METRIC_AUDIT_WAITING] = { "audit_waiting", true, "audit records that wait to be written", NULL },
	[METRIC_AUDIT_LOST] = { "audit_lost", false, "audit records that are in the server's log alone", NULL },
	[METRIC_AUDIT_EXPORT_BEHIND] = { "audit_export_behind", true,
					 "audit records that an export lacks because it cannot be written", NULL },
};

/* ---- families: a row for each value of the labels ---- */

#define SERIES_MAX 128u /* a reactor each, a plugin each, and the outcomes of each provider */
static const int64_t bounds_us[] = { 1000, 5000, 20000, 100000, 500000, 2000000, 10000000 };
static const char *const bounds_text[] = { "0.001", "0.005", "0.02", "0.1", "0.5", "2", "10" };
#define BOUNDS (sizeof bounds_us / sizeof bounds_us[0])

static const struct {
	const char *name, *help;
	bool times;
} families[FAMILY_COUNT] = {
	[FAMILY_AUTH] = { "auth_verdicts_total", "credentials judged, by provider and outcome", false },
	[FAMILY_PLUGIN_CALL] = { "plugin_call_seconds", "how long calls of a plugin took", true },
	[FAMILY_REACTOR_DELAY] = { "reactor_delay_seconds", "how late a reactor's regular turn came", true },
};

struct series {
	enum metric_family family;
	char labels[120];
	uint64_t count, at_most[BOUNDS];
	int64_t sum_us;
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
	struct series series[SERIES_MAX];
	size_t series_count;
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

/* Lock held. NULL: there are too many. */
static struct series *find_series(struct metrics *m, enum metric_family family, const char *labels)
{
	for (size_t i = 0; i < m->series_count; i++)
		if (m->series[i].family == family && strcmp(m->series[i].labels, labels) == 0)
			return &m->series[i];
	if (m->series_count == SERIES_MAX || strlen(labels) >= sizeof m->series[0].labels)
		return NULL;
	struct series *s = &m->series[m->series_count++];
	s->family = family;
	strcpy(s->labels, labels);
	return s;
}

void metrics_observe_us(struct metrics *m, enum metric_family family, const char *labels, int64_t us)
{
	pthread_mutex_lock(&m->lock);
	struct series *s = find_series(m, family, labels);
	if (s) {
		s->count++;
		s->sum_us += us;
		for (size_t i = 0; i < BOUNDS; i++)
			s->at_most[i] += us <= bounds_us[i];
	}
	pthread_mutex_unlock(&m->lock);
}

void metrics_count(struct metrics *m, enum metric_family family, const char *labels)
{
	metrics_observe_us(m, family, labels, 0);
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

static int print_head(struct buf *b, const char *name, const char *tail, const char *help, const char *type)
{
	return buf_printf(b, "# HELP tunnel_%s%s %s\n# TYPE tunnel_%s%s %s\n", name, tail, help, name, tail, type);
}

static int print_rows(struct metrics *m, struct buf *b)
{
	int rc = 0;
	for (size_t i = 0; i < METRIC_COUNT; i++) {
		const char *tail = rows[i].gauge ? "" : "_total", *labels = rows[i].labels;
		if (i == 0 || strcmp(rows[i - 1].name, rows[i].name) != 0)
			rc |= print_head(b, rows[i].name, tail, rows[i].help, rows[i].gauge ? "gauge" : "counter");
		rc |= buf_printf(b, "tunnel_%s%s%s%s%s %" PRId64 "\n", rows[i].name, tail, labels ? "{" : "",
				 labels ? labels : "", labels ? "}" : "", metrics_get(m, (enum metric)i));
	}
	return rc;
}

static int print_times(struct buf *b, const char *name, const struct series *s)
{
	int rc = 0;
	for (size_t i = 0; i < BOUNDS; i++)
		rc |= buf_printf(b, "tunnel_%s_bucket{%s,le=\"%s\"} %" PRIu64 "\n", name, s->labels, bounds_text[i],
				 s->at_most[i]);
	return rc | buf_printf(b,
			       "tunnel_%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\ntunnel_%s_sum{%s} %.6f\n"
			       "tunnel_%s_count{%s} %" PRIu64 "\n",
			       name, s->labels, s->count, name, s->labels, (double)s->sum_us / 1e6, name, s->labels,
			       s->count);
}

/* Lock held. */
static int print_families(struct metrics *m, struct buf *b)
{
	int rc = 0;
	for (size_t f = 0; f < FAMILY_COUNT; f++) {
		rc |= print_head(b, families[f].name, "", families[f].help,
				 families[f].times ? "histogram" : "counter");
		for (size_t i = 0; i < m->series_count; i++) {
			const struct series *s = &m->series[i];
			if (s->family != f)
				continue;
			rc |= families[f].times ? print_times(b, families[f].name, s)
						: buf_printf(b, "tunnel_%s{%s} %" PRIu64 "\n", families[f].name,
							     s->labels, s->count);
		}
	}
	return rc;
}

char *metrics_text(struct metrics *m)
{
	struct buf b = BUF_INIT(TEXT_MAX);
	int rc = print_rows(m, &b);
	pthread_mutex_lock(&m->lock);
	rc |= print_families(m, &b);
	for (size_t i = 0; i < m->plugin_count; i++)
		rc |= buf_printf(&b, "# HELP %s a counter of the plugin's own\n# TYPE %s counter\n%s %" PRIu64 "\n",
				 m->plugin[i].name, m->plugin[i].name, m->plugin[i].name, m->plugin[i].value);
	pthread_mutex_unlock(&m->lock);
	rc |= metrics_process_print(&b);
	char *text = rc == 0 ? buf_take_text(&b) : NULL;
	buf_free(&b);
	return text;
}
