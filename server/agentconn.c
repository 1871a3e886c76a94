/* Control connections. The agent's assertion is judged on a worker; until then nothing is read. Then text
 * messages wait in an inbox until the one before is done, and are jobs of the connection's own serial key, so the
 * control plane gets them in order. Reports that stand one behind the other are one job: they cost little more than one
 * of them. When so many or so large ones wait, the agent is not read. One kind overtakes the others: that a session is
 * terminated is no report, needs no store, and somebody waits for it while the reports of many ends are being written.
 */
#include "server/conn.h"

#include "base/certain.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/secret.h"
#include "server/control.h"
#include "server/metrics.h"
#include "server/pool.h"
#include "server/server.h"
#include "server/upgrade.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOGETHER 64u   /* reports of one job; others wait for the worker meanwhile */
#define SESSIONS 4u    /* how often they may change their session, which is then asked for at the store */
#define IN_FLIGHT 128u /* messages: as many wait while a job is done */
#define IN_FLIGHT_BYTES (4u * LIMIT_WS_MESSAGE_TEXT)
#define OUT_LIMIT (4u * LIMIT_WS_MESSAGE_TEXT) /* bytes waiting for an agent that does not read; then it is cut off */

struct job {
	struct server *server;
	wsconn_id conn;
	char *assertion;
	char remote[64];
	char target[65], identity[44];
	struct control_decision decision;
	size_t len;
	char text[];
};

/* A message, or several reports, on the way to the control plane. */
struct mail {
	struct mail *next;
	size_t len;
	char text[];
};
struct delivery {
	struct server *server;
	wsconn_id conn;
	char target[65], identity[44];
	struct mail *first;
};

struct agentconn {
	struct job *claim;
	bool in;
	char target[65], identity[44];
	struct buf message;
	struct mail *first, **last; /* the inbox */
	bool delivering;
	size_t in_flight, in_flight_bytes; /* with those that are being delivered */
	struct conn_queue out;
};

/* j: zeroed, with len and one byte of room behind it. */
static struct job *job_fill(struct job *j, struct conn *c, const char *target, const char *text, size_t len)
{
	j->server = c->server;
	j->conn = c->id;
	snprintf(j->target, sizeof j->target, "%s", target);
	snprintf(j->remote, sizeof j->remote, "%s", c->remote);
	j->len = len;
	if (len)
		memcpy(j->text, text, len);
	return j;
}

static struct job *job_new(struct conn *c, const char *target, const char *text, size_t len)
{
	struct job *j = calloc(1, sizeof *j + len + 1);
	return j ? job_fill(j, c, target, text, len) : NULL;
}

static void job_free(void *arg)
{
	struct job *j = arg;
	if (j)
		secret_free_text(&j->assertion);
	free(j);
}

void *agentconn_new(struct conn *c, const struct http_head *head, const char *bearer)
{
	struct agentconn *a = calloc(1, sizeof *a);
	struct job *j = job_new(c, "", NULL, 0);
	(void)head;
	if (a && j && (j->assertion = strdup(bearer))) {
		a->claim = j;
		a->last = &a->first;
		buf_init(&a->message, LIMIT_WS_MESSAGE_TEXT);
		return a;
	}
	job_free(j);
	free(a);
	return NULL;
}

/* The agent behind an id; NULL when it is gone. */
static struct agentconn *agent_of(struct server *server, wsconn_id id, struct conn **out_conn)
{
	struct conn *c = conn_find(server, id);
	if (!c || c->ops != &agentconn_ops || !c->open)
		return NULL;
	*out_conn = c;
	return c->state;
}

static void judge(void *arg)
{
	struct job *j = arg;
	j->decision.close_code = 4401; /* whatever the judge leaves unsaid refuses */
	control_authorize_blocking(j->server, j->assertion, j->remote, &j->decision);
}

static void tell_time(struct conn *c)
{
	char text[64];
	int len = snprintf(text, sizeof text, "{\"type\":\"clock\",\"now_ms\":%lld}", (long long)clock_wall_ms());
	agentconn_send(c, text, (size_t)len);
}

static void judged(void *arg)
{
	struct job *j = arg;
	struct conn *c = NULL;
	struct agentconn *a = agent_of(j->server, j->conn, &c);
	if (a && !c->closing) {
		if (j->decision.close_code == 4402)
			tell_time(c);
		if (j->decision.close_code) {
			conn_close(c, j->decision.close_code, j->decision.text);
		} else {
			a->in = true;
			conn_is_known(c);
			snprintf(a->target, sizeof a->target, "%s", j->decision.target);
			snprintf(a->identity, sizeof a->identity, "%s", j->decision.identity);
			conn_resume(c);
		}
	}
	job_free(j);
}

static void on_open(struct conn *c)
{
	struct agentconn *a = c->state;
	struct pool_job job = {
		.run_blocking = judge, .done = judged, .arg = a->claim, .reactor = c->reactor, .lane = POOL_EVENTS
	};
	conn_pause(c);
	if (pool_submit_anythread(c->server->pool, &job) == 0) {
		a->claim = NULL;
		return;
	}
	metrics_add(c->server->metrics, METRIC_POOL_REJECTED, 1);
	conn_close(c, 4503, "the server has more requests waiting than it takes on");
}

static void mail_free(struct mail *m)
{
	while (m) {
		struct mail *next = m->next;
		free(m);
		m = next;
	}
}

static void deliver(void *arg)
{
	struct delivery *d = arg;
	struct control_text texts[TOGETHER];
	size_t n = 0;
	for (const struct mail *m = d->first; m; m = m->next)
		texts[n++] = (struct control_text){ m->text, m->len };
	control_on_texts_blocking(d->server, d->conn, d->target, d->identity, texts, n);
}

static bool is_full(const struct agentconn *a)
{
	return a->in_flight >= IN_FLIGHT || a->in_flight_bytes >= IN_FLIGHT_BYTES;
}

/* Off the inbox: its first message, and when that is a report those behind it that are. */
static struct mail *take_mail(struct agentconn *a)
{
	struct mail *first = a->first, *end = first;
	if (control_is_report(first->text, first->len)) {
		size_t n = 1, sessions = 1;
		for (const struct mail *next = end->next; next && n < TOGETHER; next = next->next, n++) {
			sessions += !control_same_session(end->text, end->len, next->text, next->len);
			if (sessions > SESSIONS || !control_is_report(next->text, next->len))
				break;
			end = end->next;
		}
	}
	a->first = end->next;
	if (!a->first)
		a->last = &a->first;
	end->next = NULL;
	return first;
}

static void delivered(void *arg);

/* What an agent said is not forgotten for want of memory: it would be taken to be known. */
static void submit_mail(struct conn *c)
{
	struct agentconn *a = c->state;
	struct delivery *d = certain_zeroed(sizeof *d);
	d->server = c->server;
	d->conn = c->id;
	memcpy(d->target, a->target, sizeof d->target);
	memcpy(d->identity, a->identity, sizeof d->identity);
	d->first = take_mail(a);
	struct pool_job job = { .run_blocking = deliver,
				.done = delivered,
				.arg = d,
				.reactor = c->reactor,
				.lane = POOL_EVENTS,
				.must = true };
	a->delivering = true;
	if (pool_submit_serial_anythread(c->server->pool, c->id, &job) != 0)
		abort();
}

static void delivered(void *arg)
{
	struct delivery *d = arg;
	struct conn *c = NULL;
	struct agentconn *a = agent_of(d->server, d->conn, &c);
	if (a) {
		for (const struct mail *m = d->first; m; m = m->next) {
			a->in_flight--;
			a->in_flight_bytes -= m->len;
		}
		a->delivering = false;
		if (a->first)
			submit_mail(c);
		if (!is_full(a))
			conn_resume(c);
	}
	mail_free(d->first);
	free(d);
}

/* False: out of memory. */
static bool take_message(struct conn *c, const char *text, size_t len)
{
	struct agentconn *a = c->state;
	struct mail *m = malloc(sizeof *m + len);
	if (!m)
		return false;
	m->next = NULL;
	m->len = len;
	memcpy(m->text, text, len);
	*a->last = m;
	a->last = &m->next;
	a->in_flight++;
	a->in_flight_bytes += len;
	if (!a->delivering)
		submit_mail(c);
	if (is_full(a))
		conn_pause(c);
	return true;
}

static enum conn_result on_data(struct conn *c, bool binary, const uint8_t *data, size_t len, bool last)
{
	struct agentconn *a = c->state;
	if (!a->in)
		return CONN_OK;
	if (binary || buf_add(&a->message, data, len) != 0) {
		conn_close(c, 4008,
			   binary ? "binary messages are not part of this protocol" : "a message is over 256 KiB");
		return CONN_OK;
	}
	if (!last)
		return CONN_OK;
	const char *text = (const char *)buf_data(&a->message);
	bool taken = control_on_answer_anythread(c->server, c->id, a->target, text, a->message.len) ||
		     take_message(c, text, a->message.len);
	/* Each message gives its memory back: most are small, and there are many agents. */
	buf_free(&a->message);
	return taken ? CONN_OK : CONN_CLOSE;
}

static enum conn_result on_writable(struct conn *c)
{
	struct agentconn *a = c->state;
	struct conn_msg *m = conn_queue_take(&a->out);
	if (!m)
		return c->closing ? CONN_CLOSE : CONN_OK;
	int rc = conn_write(c, false, m->data, m->len);
	free(m);
	if (rc != 0)
		return CONN_CLOSE;
	if (a->out.first || c->closing)
		conn_want_write(c);
	return CONN_OK;
}

static void on_tick(struct conn *c, int64_t now_mono_ms)
{
	(void)c, (void)now_mono_ms;
}

static void gone(void *arg)
{
	struct job *j = arg;
	control_on_closed_blocking(j->server, j->conn, j->target, j->text);
}

static void on_closed(struct conn *c, unsigned code, const char *why)
{
	struct agentconn *a = c->state;
	(void)code;
	if (c->closing)
		why = c->close_reason;
	while (a->first) /* what came before the end counts */
		submit_mail(c);
	if (a->in) {
		/* If it were lost the target would look connected for good. */
		struct job *j = job_fill(certain_zeroed(sizeof *j + strlen(why) + 1), c, a->target, why, strlen(why));
		struct pool_job job = { .run_blocking = gone,
					.done = job_free,
					.arg = j,
					.reactor = -1,
					.lane = POOL_EVENTS,
					.must = true };
		if (pool_submit_serial_anythread(c->server->pool, c->id, &job) != 0)
			abort();
	}
	job_free(a->claim);
	buf_free(&a->message);
	conn_queue_clear(&a->out, false);
	free(a);
	c->state = NULL;
}

const struct conn_ops agentconn_ops = { "tunnel.control.v1", on_open, on_data, on_writable, on_tick, on_closed };

void agentconn_send(struct conn *c, const char *text, size_t len)
{
	struct agentconn *a = c->state;
	if (c->ops != &agentconn_ops || !c->open || c->closing)
		return;
	if (a->out.bytes + len > OUT_LIMIT || !conn_queue_add(&a->out, false, text, len)) {
		conn_queue_clear(&a->out, false);
		conn_close(c, 4012, "the agent did not read in time");
		return;
	}
	conn_want_write(c);
}
