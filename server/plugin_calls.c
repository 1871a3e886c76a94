/* Calls into a plugin. Each goes through the same gate: a turn where the plugin is SERIAL, an error buffer that is
 * always there and always ends, and a result that is one this operation may give. A plugin that breaks a rule of the
 * interface gets its answer turned into INTERNAL, which refuses. */
#include "server/plugin_internal.h"

#include "base/clock.h"
#include "base/text.h"
#include "server/metrics.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Lock held. deadline_ms 0: for ever. */
static void wait_moved(struct plugin *p, int64_t deadline_ms)
{
	if (!deadline_ms) {
		pthread_cond_wait(&p->moved, &p->lock);
		return;
	}
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	int64_t left = deadline_ms - clock_mono_ms();
	left = left < 0 ? 0 : left;
	until.tv_sec += left / 1000;
	until.tv_nsec += left % 1000 * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_cond_timedwait(&p->moved, &p->lock, &until);
}

static bool is_over(int64_t deadline_ms)
{
	return deadline_ms && clock_mono_ms() >= deadline_ms;
}

int plugin_turn_take(struct plugin *p, int64_t deadline_ms)
{
	if (p->desc.threads == TUNNEL_THREADS_PARALLEL)
		return 0;
	pthread_mutex_lock(&p->lock);
	while (p->turn_taken && !is_over(deadline_ms))
		wait_moved(p, deadline_ms);
	bool mine = !p->turn_taken;
	if (mine)
		p->turn_taken = true;
	pthread_mutex_unlock(&p->lock);
	return mine ? 0 : TUNNEL_TIMEOUT;
}

void plugin_turn_give(struct plugin *p)
{
	if (p->desc.threads == TUNNEL_THREADS_PARALLEL)
		return;
	pthread_mutex_lock(&p->lock);
	p->turn_taken = false;
	pthread_cond_broadcast(&p->moved);
	pthread_mutex_unlock(&p->lock);
}

/* ---- places: a plugin that hangs does not get every worker ---- */

#define PATIENCE_MS 2000 /* with a plugin of which all places are taken; none came free for so long: it hangs */

void plugin_limit_calls(struct plugin *p, unsigned places)
{
	p->places = places;
}

/* A place free soon is waited for, so that a plugin which is merely busy refuses nobody. *out_has: there was one to
 * take.
 */
static int place_take(struct plugin *p, int64_t deadline_ms, bool *out_has)
{
	*out_has = false;
	if (!p->places)
		return 0;
	pthread_mutex_lock(&p->lock);
	while (p->calls >= p->places) {
		int64_t until_ms = p->moved_ms + PATIENCE_MS;
		if (is_over(until_ms) || is_over(deadline_ms))
			break;
		wait_moved(p, deadline_ms && deadline_ms < until_ms ? deadline_ms : until_ms);
	}
	bool mine = p->calls < p->places;
	if (mine && p->calls++ == 0)
		p->moved_ms = clock_mono_ms();
	pthread_mutex_unlock(&p->lock);
	*out_has = mine;
	return mine ? 0 : TUNNEL_UNAVAILABLE;
}

/* has: as place_take said. moved: a call came back, rather than gave up waiting for its turn. */
static void place_give(struct plugin *p, bool has, bool moved)
{
	if (!has)
		return;
	pthread_mutex_lock(&p->lock);
	p->calls--;
	if (moved)
		p->moved_ms = clock_mono_ms();
	pthread_cond_broadcast(&p->moved);
	pthread_mutex_unlock(&p->lock);
}

struct gate {
	struct plugin *p;
	struct tunnel_call call; /* what the plugin gets */
	char scratch[256];       /* its error buffer when the caller has none */
	int64_t began_us;        /* with the wait for its turn */
	bool has_place;
};

#define NO(result) (1u << (result))
#define NO_ANSWERS 0u

static void say(const struct gate *g, const char *text)
{
	snprintf(g->call.err, g->call.err_len, "%s: %s", g->p->name, text);
}

/* 0, or the result to give up with. */
static int gate_enter(struct gate *g, struct plugin *p, const struct tunnel_call *call)
{
	g->p = p;
	g->began_us = clock_mono_us();
	memset(&g->call, 0, sizeof g->call);
	if (call)
		memcpy(&g->call, call, call->size < sizeof g->call ? call->size : sizeof g->call);
	g->call.size = sizeof g->call;
	if (!g->call.err || g->call.err_len == 0) {
		g->call.err = g->scratch;
		g->call.err_len = sizeof g->scratch;
	}
	g->call.err[0] = '\0';
	if (is_over(g->call.deadline_ms)) {
		say(g, "the deadline had passed before the call");
		return TUNNEL_TIMEOUT;
	}
	if (place_take(p, g->call.deadline_ms, &g->has_place) != 0) {
		say(g, "busy: as many calls as it may have are at it, and none comes back");
		return TUNNEL_UNAVAILABLE;
	}
	if (plugin_turn_take(p, g->call.deadline_ms) != 0) {
		place_give(p, g->has_place, false);
		say(g, "the deadline passed in the queue");
		return TUNNEL_TIMEOUT;
	}
	return 0;
}

/* One line of text, whatever the plugin wrote. */
static void tidy(char *text, size_t size)
{
	text[size - 1] = '\0';
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = ' ';
	if (!text_is_utf8(text, strlen(text)))
		for (char *c = text; *c; c++)
			if ((unsigned char)*c >= 0x80)
				*c = '?';
}

/* nos: the definite noes that this operation may answer. */
static int gate_leave(struct gate *g, int rc, unsigned nos)
{
	char labels[sizeof g->p->name + 16];
	plugin_turn_give(g->p);
	place_give(g->p, g->has_place, true);
	snprintf(labels, sizeof labels, "plugin=\"%s\"", g->p->name);
	if (g->p->metrics)
		metrics_observe_us(g->p->metrics, FAMILY_PLUGIN_CALL, labels, clock_mono_us() - g->began_us);
	tidy(g->call.err, g->call.err_len);
	bool known = rc == TUNNEL_OK || (rc < 0 && rc >= TUNNEL_INTERNAL) ||
		     (rc > 0 && rc <= TUNNEL_NOT_MINE && (nos & NO(rc)));
	if (!known) {
		char text[80];
		snprintf(text, sizeof text, "answered %d, which this operation may not", rc);
		say(g, text);
		return TUNNEL_INTERNAL;
	}
	if (rc < 0 && !g->call.err[0])
		say(g, rc == TUNNEL_UNAVAILABLE ? "unavailable"
		       : rc == TUNNEL_TIMEOUT   ? "no answer in time"
		       : rc == TUNNEL_INVALID   ? "the request breaks a rule of the plugin interface"
						: "failed and gave no reason");
	return rc;
}

/* An auth provider's answer, yes or no, is worth nothing after the deadline: who asked may have been given up. (What a
 * store answers late is still so: what is durable is done, and saying otherwise would have it done twice.) */
static int gate_in_time(struct gate *g, int rc)
{
	if (rc < 0 || !g->call.deadline_ms || clock_mono_ms() < g->call.deadline_ms)
		return rc;
	say(g, "the answer came after the deadline");
	return TUNNEL_TIMEOUT;
}

static int broken(struct gate *g, const char *text)
{
	say(g, text);
	return TUNNEL_INTERNAL;
}

/* auth */

static bool ends_and_is_utf8(const char *text, size_t size)
{
	const char *end = memchr(text, '\0', size);
	return end && text_is_utf8(text, (size_t)(end - text));
}

int plugin_auth_verify_blocking(struct plugin *p, const struct tunnel_call *call,
				const struct tunnel_auth_request *request, struct tunnel_identity *out)
{
	struct gate g;
	memset(out, 0, sizeof *out);
	out->size = sizeof *out;
	int rc = gate_enter(&g, p, call);
	if (rc != 0)
		return rc;
	rc = p->ops.auth.verify(p->instance, &g.call, request, out);
	rc = gate_in_time(&g, gate_leave(&g, rc, NO(TUNNEL_DENIED) | NO(TUNNEL_NOT_MINE)));
	if (rc == TUNNEL_OK && (!out->subject[0] || !ends_and_is_utf8(out->subject, sizeof out->subject)))
		rc = broken(&g, "accepted a credential without a usable subject");
	if (rc == TUNNEL_OK &&
	    (!ends_and_is_utf8(out->credential, sizeof out->credential) ||
	     !ends_and_is_utf8(out->groups, sizeof out->groups) || !ends_and_is_utf8(out->claims, sizeof out->claims)))
		rc = broken(&g, "accepted a credential with text that does not end or is not UTF-8");
	if (rc != TUNNEL_OK)
		memset(out, 0, sizeof *out);
	out->size = sizeof *out;
	return rc;
}

int plugin_auth_claim_blocking(struct plugin *p, const struct tunnel_call *call,
			       const struct tunnel_auth_request *request, char *out)
{
	struct gate g;
	memset(out, 0, TUNNEL_CREDENTIAL_MAX);
	if (!p->ops.auth.claim)
		return TUNNEL_NOT_MINE;
	int rc = gate_enter(&g, p, call);
	if (rc != 0)
		return rc;
	rc = p->ops.auth.claim(p->instance, &g.call, request, out, TUNNEL_CREDENTIAL_MAX);
	rc = gate_in_time(&g, gate_leave(&g, rc, NO(TUNNEL_NOT_MINE)));
	if (rc == TUNNEL_OK && (!out[0] || !ends_and_is_utf8(out, TUNNEL_CREDENTIAL_MAX)))
		rc = broken(&g, "named a claimed credential with text that is empty, does not end or is not UTF-8");
	return rc;
}

bool plugin_auth_authorizes(const struct plugin *p)
{
	return p->ops.auth.authorize != NULL;
}

int plugin_auth_authorize_blocking(struct plugin *p, const struct tunnel_call *call,
				   const struct tunnel_identity *identity, const char *action, const char *resource,
				   const char *context)
{
	struct gate g;
	if (!p->ops.auth.authorize)
		return TUNNEL_NOT_MINE;
	int rc = gate_enter(&g, p, call);
	if (rc != 0)
		return rc;
	rc = p->ops.auth.authorize(p->instance, &g.call, identity, action, resource, context);
	return gate_in_time(&g, gate_leave(&g, rc, NO(TUNNEL_DENIED) | NO(TUNNEL_NOT_MINE)));
}

/* store */

/* Stands between the plugin and the caller's row function: copies the row into our size, counts, and holds back what
 * comes after a stop or beyond the limit. */
struct row_gate {
	tunnel_row_fn *fn;
	void *arg;
	uint32_t rows, limit;
	bool stopped, too_many;
};

static int pass_row(void *arg, const struct tunnel_row *theirs)
{
	struct row_gate *g = arg;
	if (g->stopped || g->rows == g->limit) {
		g->too_many = g->too_many || !g->stopped;
		return 1;
	}
	struct tunnel_row row;
	memset(&row, 0, sizeof row);
	memcpy(&row, theirs, theirs->size < sizeof row ? theirs->size : sizeof row);
	row.size = sizeof row;
	g->rows++;
	g->stopped = g->fn(g->arg, &row) != 0;
	return g->stopped;
}

int plugin_store_get_blocking(struct plugin *p, const struct tunnel_call *call, const char *collection, const char *key,
			      tunnel_row_fn *row, void *arg)
{
	struct gate g;
	struct row_gate rows = { .fn = row, .arg = arg, .limit = 1 };
	int rc = gate_enter(&g, p, call);
	if (rc != 0)
		return rc;
	rc = p->ops.store.get(p->instance, &g.call, collection, key, pass_row, &rows);
	rc = gate_leave(&g, rc, NO(TUNNEL_NOT_FOUND));
	if (rc == TUNNEL_OK && (rows.rows != 1 || rows.too_many))
		rc = broken(&g, "get answered OK without exactly one row");
	return rc;
}

int plugin_store_put_blocking(struct plugin *p, const struct tunnel_call *call, const struct tunnel_put *put,
			      uint64_t *out_version)
{
	struct gate g;
	uint64_t version = 0;
	int rc = gate_enter(&g, p, call);
	if (rc != 0)
		return rc;
	rc = p->ops.store.put(p->instance, &g.call, put, &version);
	rc = gate_leave(&g, rc, NO(TUNNEL_CONFLICT));
	if (rc == TUNNEL_OK && version == 0)
		rc = broken(&g, "put answered OK without a version");
	if (rc == TUNNEL_OK && out_version)
		*out_version = version;
	return rc;
}

int plugin_store_del_blocking(struct plugin *p, const struct tunnel_call *call, const char *collection, const char *key,
			      uint64_t expect_version)
{
	struct gate g;
	int rc = gate_enter(&g, p, call);
	if (rc != 0)
		return rc;
	rc = p->ops.store.del(p->instance, &g.call, collection, key, expect_version);
	return gate_leave(&g, rc, NO(TUNNEL_NOT_FOUND) | NO(TUNNEL_CONFLICT));
}

int plugin_store_scan_blocking(struct plugin *p, const struct tunnel_call *call, const struct tunnel_scan *scan,
			       tunnel_row_fn *row, void *arg, char *out_cursor)
{
	struct gate g;
	struct row_gate rows = { .fn = row, .arg = arg, .limit = scan->limit };
	char cursor[TUNNEL_CURSOR_MAX] = "";
	int rc = gate_enter(&g, p, call);
	if (rc != 0)
		return rc;
	rc = p->ops.store.scan(p->instance, &g.call, scan, pass_row, &rows, cursor);
	rc = gate_leave(&g, rc, NO_ANSWERS);
	if (rc == TUNNEL_OK && rows.too_many)
		rc = broken(&g, "scan gave more rows than asked for");
	if (rc == TUNNEL_OK && !memchr(cursor, '\0', sizeof cursor))
		rc = broken(&g, "scan gave a cursor that does not end");
	if (rc == TUNNEL_OK)
		memcpy(out_cursor, cursor, sizeof cursor);
	return rc;
}

int plugin_store_append_blocking(struct plugin *p, const struct tunnel_call *call, const char *log, const char *record,
				 size_t len, uint64_t *out_seq)
{
	struct gate g;
	uint64_t seq = 0;
	int rc = gate_enter(&g, p, call);
	if (rc != 0)
		return rc;
	rc = p->ops.store.append(p->instance, &g.call, log, record, len, &seq);
	rc = gate_leave(&g, rc, NO_ANSWERS);
	if (rc == TUNNEL_OK && seq == 0)
		rc = broken(&g, "append answered OK without a sequence number");
	if (rc == TUNNEL_OK && out_seq)
		*out_seq = seq;
	return rc;
}

int plugin_store_append_many_blocking(struct plugin *p, const struct tunnel_call *call, const char *log,
				      const struct tunnel_record *records, size_t n, size_t *out_n,
				      uint64_t *out_first_seq)
{
	struct gate g;
	uint64_t seq = 0;
	*out_n = 0;
	if (!p->ops.store.append_many) { /* of before ABI 1.1 */
		int one = plugin_store_append_blocking(p, call, log, records[0].text, records[0].len, out_first_seq);
		*out_n = one == TUNNEL_OK;
		return one;
	}
	int rc = gate_enter(&g, p, call);
	if (rc != 0)
		return rc;
	rc = p->ops.store.append_many(p->instance, &g.call, log, records, n, &seq);
	rc = gate_leave(&g, rc, NO_ANSWERS);
	if (rc == TUNNEL_OK && seq == 0)
		rc = broken(&g, "append_many answered OK without a sequence number");
	if (rc == TUNNEL_OK) {
		*out_n = n;
		*out_first_seq = seq;
	}
	return rc;
}

int plugin_store_read_blocking(struct plugin *p, const struct tunnel_call *call, const char *log, uint64_t from,
			       uint32_t limit, tunnel_row_fn *row, void *arg)
{
	struct gate g;
	struct row_gate rows = { .fn = row, .arg = arg, .limit = limit };
	int rc = gate_enter(&g, p, call);
	if (rc != 0)
		return rc;
	rc = p->ops.store.read(p->instance, &g.call, log, from, limit, pass_row, &rows);
	rc = gate_leave(&g, rc, NO_ANSWERS);
	if (rc == TUNNEL_OK && rows.too_many)
		rc = broken(&g, "read gave more rows than asked for");
	return rc;
}

int plugin_store_publish_blocking(struct plugin *p, const struct tunnel_call *call, const char *channel,
				  const char *message, size_t len)
{
	struct gate g;
	int rc = gate_enter(&g, p, call);
	if (rc != 0)
		return rc;
	return gate_leave(&g, p->ops.store.publish(p->instance, &g.call, channel, message, len), NO_ANSWERS);
}

int plugin_store_subscribe_blocking(struct plugin *p, const struct tunnel_call *call, tunnel_event_fn *event, void *arg)
{
	struct gate g;
	int rc = gate_enter(&g, p, call);
	if (rc != 0)
		return rc;
	return gate_leave(&g, p->ops.store.subscribe(p->instance, &g.call, event, arg), NO_ANSWERS);
}

int plugin_store_health_blocking(struct plugin *p, const struct tunnel_call *call)
{
	struct gate g;
	int rc = gate_enter(&g, p, call);
	if (rc != 0)
		return rc;
	return gate_leave(&g, p->ops.store.health(p->instance, &g.call), NO_ANSWERS);
}
