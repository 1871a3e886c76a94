/* Legs over WebSockets. A leg is judged on a worker before anything of it is read: until then its reading is paused,
 * and what the relay gets from it begins with the answer. Afterwards this file only carries: pieces of binary messages
 * to the relay as they come, whole text messages, and back what the relay has for it. */
#include "server/leg.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/secret.h"
#include "server/metrics.h"
#include "server/pool.h"
#include "server/reactor_internal.h"
#include "server/relay_events.h"
#include "server/server.h"
#include "server/sessions.h"
#include "server/upgrade.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the upgrade request said; gone once it is judged. */
struct claim {
	struct server *server;
	wsconn_id conn;
	char *session, *token, *dpop, *host, *remote;
	char request_id[24];
	struct attach_decision decision;
};

struct legconn {
	struct claim *claim;   /* until it is handed to the pool */
	int64_t judged_by_ms;  /* monotonic */
	struct leg *leg;       /* once it is in */
	struct conn_queue out; /* of a leg that was refused */
	struct buf text;       /* a message of which more is to come; they are rare, so its memory goes with it */
};

static void claim_free(struct claim *k)
{
	if (!k)
		return;
	free(k->session);
	secret_free_text(&k->token);
	secret_free_text(&k->dpop);
	free(k->host);
	free(k->remote);
	free(k);
}

void *legconn_new(struct conn *c, const struct http_head *head, const char *session, const char *bearer)
{
	struct legconn *l = calloc(1, sizeof *l);
	struct claim *k = calloc(1, sizeof *k);
	if (l && k) {
		k->server = c->server;
		k->conn = c->id;
		k->session = strdup(session);
		k->token = strdup(bearer);
		k->dpop = strdup(http_head_get(head, "dpop"));
		k->host = strdup(http_head_get(head, "host"));
		k->remote = strdup(c->remote);
		memcpy(k->request_id, "r-", 2);
		secret_random_id(k->request_id + 2, 16);
	}
	if (!l || !k || !k->session || !k->token || !k->dpop || !k->host || !k->remote) {
		claim_free(k);
		free(l);
		return NULL;
	}
	l->claim = k;
	buf_init(&l->text, LIMIT_LEG_TEXT);
	return l;
}

/* Codes after which an end should attach again (PROTOCOL.md, section 3). */
static bool is_retry(unsigned code)
{
	static const unsigned codes[] = { 4002, 4009, 4010, 4012, 4402, 4503 };
	for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
		if (codes[i] == code)
			return true;
	return false;
}

char *leg_closing_text(unsigned code, const char *reason, const char *relay_url)
{
	json_t *json = json_pack("{s:s,s:i,s:s,s:b}", "type", "closing", "code", (int)code, "reason", reason, "retry",
				 is_retry(code));
	if (json && relay_url && *relay_url)
		json_object_set_new(json, "relay_url", json_string(relay_url));
	if (json && code == 4402)
		json_object_set_new(json, "now_ms", json_integer(clock_wall_ms()));
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	return text;
}

static void refuse(struct conn *c, unsigned code, const char *reason, const char *relay_url)
{
	struct legconn *l = c->state;
	char *text = leg_closing_text(code, reason, relay_url);
	if (text)
		(void)conn_queue_add(&l->out, false, text, strlen(text));
	free(text);
	metrics_add(c->server->metrics, METRIC_LEGS_REFUSED, 1);
	conn_close(c, code, reason);
}

/* ---- as the relay sees it ---- */

static void want_write(void *transport)
{
	conn_want_write(transport);
}

static void pause_reading(void *transport)
{
	conn_pause(transport);
}

static void resume_reading(void *transport)
{
	conn_resume(transport);
}

static const struct leg_transport transport = { want_write, pause_reading, resume_reading };

void legconn_kick(struct server *server, wsconn_id id)
{
	struct conn *c = conn_find(server, id);
	if (c && c->ops == &legconn_ops && c->open) {
		struct legconn *l = c->state;
		if (l->leg)
			leg_kick(l->leg);
	}
}

/* ---- judgement ---- */

static void judge(void *arg)
{
	struct claim *k = arg;
	const struct attach_request request = { .session = k->session,
						.token = k->token,
						.dpop = k->dpop,
						.host = k->host,
						.remote_address = k->remote,
						.request_id = k->request_id };
	/* Whatever the judge leaves unsaid refuses. */
	k->decision.close_code = 4010;
	sessions_attach_blocking(k->server, &request, &k->decision);
}

static void judged(void *arg)
{
	struct claim *k = arg;
	const struct attach_decision *d = &k->decision;
	struct conn *c = conn_find(k->server, k->conn);
	if (c && c->ops == &legconn_ops && c->open && !c->closing) {
		struct legconn *l = c->state;
		const struct leg_init init = { .session = d->session[0] ? d->session : k->session,
					       .role = d->role,
					       .generation = d->generation,
					       .id = c->id,
					       .remote_address = c->remote,
					       .ops = &transport,
					       .transport = c };
		if (d->close_code)
			refuse(c, d->close_code, d->text, d->relay_url);
		else if (!(l->leg = leg_attach(k->server->relay, &init)))
			refuse(c, 4010, "out of memory", NULL);
		else
			conn_is_known(c), conn_resume(c);
	}
	claim_free(k);
}

static void on_open(struct conn *c)
{
	struct legconn *l = c->state;
	struct pool_job job = {
		.run_blocking = judge, .done = judged, .arg = l->claim, .reactor = c->reactor, .lane = POOL_ATTACHES
	};
	conn_pause(c);
	l->judged_by_ms = clock_mono_ms() + http_times.work_ms;
	/* Serial by session, so that of two attaches of one role the later one wins, and after the events before. */
	if (pool_submit_serial_anythread(c->server->pool, relay_events_key(l->claim->session), &job) == 0) {
		l->claim = NULL;
		return;
	}
	claim_free(l->claim);
	l->claim = NULL;
	metrics_add(c->server->metrics, METRIC_POOL_REJECTED, 1);
	refuse(c, 4503, "the server has more requests waiting than it takes on", NULL);
}

/* ---- bytes ---- */

static enum conn_result on_data(struct conn *c, bool binary, const uint8_t *data, size_t len, bool last)
{
	struct legconn *l = c->state;
	if (!l->leg)
		return CONN_OK;
	if (binary) {
		if (len)
			leg_on_bytes(l->leg, data, len);
		return CONN_OK;
	}
	if (buf_add(&l->text, data, len) != 0) {
		leg_on_text(l->leg, "", 0); /* too long is malformed too */
		return CONN_OK;
	}
	if (last) {
		leg_on_text(l->leg, (const char *)buf_data(&l->text), l->text.len);
		buf_free(&l->text);
	}
	return CONN_OK;
}

static enum conn_result write_one(struct conn *c, struct conn_msg *m, bool more)
{
	int rc = conn_write(c, m->binary, m->data, m->len);
	free(m);
	if (rc != 0)
		return CONN_CLOSE;
	if (more)
		conn_want_write(c);
	return CONN_OK;
}

static enum conn_result on_writable(struct conn *c)
{
	struct legconn *l = c->state;
	struct conn_msg *m = conn_queue_take(&l->out);
	bool more = l->out.first;
	if (!m && l->leg) {
		unsigned code = 0;
		const char *reason = "";
		m = leg_next(l->leg, &more, &code, &reason);
		if (!m && code)
			conn_close(c, code, reason);
	}
	if (m)
		return write_one(c, m, more || c->closing);
	return c->closing ? CONN_CLOSE : CONN_OK;
}

static void on_tick(struct conn *c, int64_t now_mono_ms)
{
	struct legconn *l = c->state;
	if (l->leg && leg_tick(l->leg, now_mono_ms))
		conn_close_deadline(c);
	if (!l->leg && !c->closing && now_mono_ms >= l->judged_by_ms)
		refuse(c, 4503, "it was not found out in time whether this leg may attach; try again", NULL);
}

static void on_closed(struct conn *c, unsigned code, const char *why)
{
	struct legconn *l = c->state;
	if (l->leg)
		leg_detach(&l->leg, code, why);
	claim_free(l->claim);
	conn_queue_clear(&l->out, false);
	buf_free(&l->text);
	free(l);
	c->state = NULL;
}

const struct conn_ops legconn_ops = { "tunnel.leg.v1", on_open, on_data, on_writable, on_tick, on_closed };
