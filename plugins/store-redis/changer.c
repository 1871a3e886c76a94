/* All that waits is sent at once and answered at once: one round trip, and with appendfsync always one fsync, for many
 * callers. When the connection is lost, or does not answer in time, those on their way are answered "unknown", a new
 * one is made, and its number shuts out what the old one may still carry (scripts.c). */
#include "changer.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#define BATCH_MAX 256u                 /* changes sent before their answers are read */
#define BATCH_BYTES_MAX (1024u * 1024) /* of them together, but for the last */
#define ADDRESSES_MAX 8u               /* of the server's name */
#define FENCE_MS 3600000               /* how long a fence is kept after its last use */
#define PING_MS 1000                   /* so often an idle connection is asked for a sign of life */
#define BACKOFF_MIN_MS 20
#define BACKOFF_MAX_MS 1000
#define PURGE_ROWS 100u /* expired documents removed in one script: others wait for its end */

struct changer {
	const struct tunnel_host *host;
	struct redis_options *o;
	const struct owner *owner;
	struct master *master;
	struct queue *queue;
	struct dial dial;
	int stop_fd;
	pthread_t thread;
	bool has_thread;
	struct conn *conn;
	uint64_t fence;
	char identity[IDENTITY_MAX];
	char server[300];
	int64_t next_try_ms, backoff_ms, next_ping_ms, next_purge_ms;
	int told;       /* the result that the log was told of while the server is away; 0: it is not */
	bool failing;   /* the log was told that changes are refused */
	char lost[256]; /* why the connection was lost */
};

static int64_t now(const struct changer *c)
{
	return c->host->mono_ms(c->host->ctx);
}

static void tell(struct changer *c, enum tunnel_log_level level, const char *what, const char *why)
{
	char text[500];
	snprintf(text, sizeof text, "%s%s%s", what, *why ? ": " : "", why);
	c->host->log(c->host->ctx, level, text);
}

static int raise_fence(struct changer *c, struct conn *conn, int64_t until_ms, struct words w)
{
	redisReply *reply = NULL;
	struct command *out = conn_out(conn);
	script_begin(out, SCRIPT_FENCE, true, 2, 5);
	command_format(out, KEY_FENCE, c->owner->prefix, c->owner->instance);
	command_format(out, KEY_FORMAT, c->owner->prefix);
	command_format(out, "%0*llu", FENCE_DIGITS, (unsigned long long)++c->fence);
	command_format(out, "%d", FENCE_MS);
	command_format(out, "%d", STORE_FORMAT);
	int rc = conn_ask(conn, until_ms, "EVAL", &reply, w);
	long long answer = rc == 0 ? reply_number(reply, 0) : 0;
	if (rc == 0 && answer == ANSWER_FORMAT)
		rc = words_set(w, TUNNEL_CONFIG, "what is stored with the prefix %s has format %lld; allowed: %d",
			       c->owner->prefix, reply_number(reply, 1), STORE_FORMAT);
	else if (rc == 0 && answer != ANSWER_DONE)
		rc = words_set(w, TUNNEL_UNAVAILABLE, "a later connection for changes exists");
	freeReplyObject(reply);
	return rc;
}

static int try_server(struct changer *c, const struct endpoint *server, struct words w)
{
	char identity[IDENTITY_MAX], why[256] = "";
	struct words inner = { why, sizeof why };
	struct conn *conn = NULL;
	int rc = conn_open(&c->dial, server, 0, &conn, w);
	if (rc != 0)
		return rc;
	int64_t until_ms = now(c) + c->o->answer_ms;
	rc = inspect(conn, server, until_ms, identity, w);
	if (rc == 0 && (rc = scripts_load(conn, until_ms, inner)) == 0)
		rc = raise_fence(c, conn, until_ms, inner);
	if (rc == 0 && strcmp(identity, c->identity) != 0) {
		inspect_durability(conn, c->host, server, c->owner->prefix, until_ms);
		memcpy(c->identity, identity, sizeof identity);
	}
	if (rc != 0) {
		conn_close(&conn);
		return why[0] ? words_set(w, rc, "Redis at %s: %s", server->name, why) : rc;
	}
	c->conn = conn;
	memcpy(c->server, server->name, sizeof c->server);
	master_is(c->master, server, identity);
	return 0;
}

static int connect_blocking(struct changer *c, struct words w)
{
	struct endpoint at[ADDRESSES_MAX];
	struct dial sentinel = c->dial;
	size_t n = 0;
	sentinel.account = &c->o->sentinel_account;
	sentinel.database = 0;
	int rc = c->o->address ? endpoint_find_blocking(c->o->address, at, ADDRESSES_MAX, &n, w)
			       : sentinel_ask_blocking(&sentinel, c->o, at, ADDRESSES_MAX, &n, w);
	for (size_t i = 0; rc == 0 && !c->conn && i < n; i++) {
		rc = try_server(c, &at[i], w);
		if (rc != 0 && i + 1 < n)
			rc = 0;
	}
	return rc;
}

static void connected(struct changer *c)
{
	c->backoff_ms = BACKOFF_MIN_MS;
	c->next_ping_ms = now(c) + PING_MS;
	if (c->told)
		tell(c, TUNNEL_LOG_INFO, "Redis answers again", c->server);
	else if (c->lost[0])
		tell(c, TUNNEL_LOG_INFO, "the connection for changes was lost and is there again", c->lost);
	c->told = 0;
	c->lost[0] = '\0';
}

static void not_connected(struct changer *c, int rc, const char *why)
{
	master_is_away(c->master, why);
	if (c->told != rc)
		tell(c, rc == TUNNEL_CONFIG ? TUNNEL_LOG_ERROR : TUNNEL_LOG_WARN,
		     "no Redis; trying again until there is", why);
	c->told = rc;
	queue_fail_all(c->queue, TUNNEL_UNAVAILABLE, why);
	c->next_try_ms = now(c) + c->backoff_ms;
	c->backoff_ms = c->backoff_ms * 2 < BACKOFF_MAX_MS ? c->backoff_ms * 2 : BACKOFF_MAX_MS;
}

static void drop(struct changer *c, const char *why)
{
	conn_close(&c->conn);
	snprintf(c->lost, sizeof c->lost, "%s", why);
	c->next_try_ms = 0;
	master_is_sought(c->master);
	c->host->count(c->host->ctx, "lost_connections", 1);
}

/* Waits until there is something to do; false when it is time to end. */
static bool wait_for_work(struct changer *c, int64_t until_ms)
{
	struct pollfd fds[3] = { { .fd = c->stop_fd, .events = POLLIN },
				 { .fd = queue_fd(c->queue), .events = POLLIN },
				 { .fd = c->conn ? conn_fd(c->conn) : -1, .events = POLLIN } };
	poll(fds, 3, (int)time_left(c->host, until_ms, 60000));
	return !fds[0].revents;
}

static void seek(struct changer *c)
{
	char why[256] = "";
	if (now(c) < c->next_try_ms) {
		queue_fail_all(c->queue, TUNNEL_UNAVAILABLE, "Redis is away");
		return;
	}
	int rc = connect_blocking(c, (struct words){ why, sizeof why });
	if (rc == 0)
		connected(c);
	else
		not_connected(c, rc, why);
}

static void note_failing(struct changer *c, const struct change *batch)
{
	const struct change *bad = batch;
	while (bad && (!bad->sent || bad->again || bad->result >= 0))
		bad = bad->next;
	if (bad && !c->failing)
		tell(c, TUNNEL_LOG_ERROR, "Redis refuses changes", bad->text);
	else if (!bad && c->failing)
		tell(c, TUNNEL_LOG_INFO, "Redis takes changes again", "");
	c->failing = bad != NULL;
}

/* false: nothing of it is to be sent any more. */
static bool say_all(struct changer *c, struct change *batch)
{
	bool any = false;
	for (struct change *one = batch; one; one = one->next) {
		if (one->deadline_ms && now(c) >= one->deadline_ms) {
			change_fail(one, TUNNEL_TIMEOUT, "the deadline passed before it was sent; nothing was written");
			continue;
		}
		change_send(one, c->fence, conn_out(c->conn));
		any = true;
	}
	if (any && c->o->wait_replicas) {
		command_begin(conn_out(c->conn), 3);
		command_text(conn_out(c->conn), "WAIT");
		command_format(conn_out(c->conn), "%ld", c->o->wait_replicas);
		command_format(conn_out(c->conn), "%lld", (long long)c->o->wait_ms);
	}
	return any;
}

static void in_doubt(struct change *one, const char *why)
{
	if (one->sent && one->result == TUNNEL_OK)
		change_fail(one, TUNNEL_UNAVAILABLE, "%s: %s; whether it was written is unknown", one->doing, why);
}

/* How many replicas have what was just done; too few: none of it counts as done. */
static int hear_replicas(struct changer *c, struct change *batch, struct words w)
{
	redisReply *reply = NULL;
	int rc = conn_hear(c->conn, now(c) + c->o->wait_ms + c->o->answer_ms, &reply, w);
	if (rc != 0)
		return rc;
	long long have = reply->type == REDIS_REPLY_INTEGER ? reply->integer : 0;
	for (struct change *one = batch; have < c->o->wait_replicas && one; one = one->next)
		if (one->sent && one->result == TUNNEL_OK)
			change_fail(one, TUNNEL_UNAVAILABLE,
				    "%s: it is written, but after %lld ms %lld replicas have it; wait_replicas is %ld",
				    one->doing, (long long)c->o->wait_ms, have, c->o->wait_replicas);
	freeReplyObject(reply);
	return 0;
}

/* Each answer may take its time: the server writes a large batch to its disk in many steps. */
static int hear_all(struct changer *c, struct change *batch, bool *out_sent_away, struct words w)
{
	int rc = 0;
	for (struct change *one = batch; one; one = one->next) {
		redisReply *reply = NULL;
		if (!one->sent)
			continue;
		if (rc == 0)
			rc = conn_hear(c->conn, now(c) + c->o->answer_ms, &reply, w);
		if (rc != 0) {
			in_doubt(one, w.text);
			continue;
		}
		change_take(one, reply);
		*out_sent_away = *out_sent_away || one->again || reply_sends_away(reply);
		freeReplyObject(reply);
	}
	return rc;
}

static void run_batch(struct changer *c, struct change *batch)
{
	char why[160] = "";
	struct words w = { why, sizeof why };
	bool sent_away = false;
	if (!batch || !say_all(c, batch)) {
		queue_answer(c->queue, batch);
		return;
	}
	int rc = conn_flush(c->conn, now(c) + c->o->answer_ms, w);
	bool together = rc != 0 || c->o->wait_replicas; /* what the replicas have is the last that is said, for all */
	if (rc == 0)
		rc = hear_all(c, batch, &sent_away, w);
	if (rc == 0 && c->o->wait_replicas)
		rc = hear_replicas(c, batch, w);
	for (struct change *one = batch; rc != 0 && together && one; one = one->next)
		in_doubt(one, why);
	if (rc == 0)
		note_failing(c, batch);
	if (rc != 0 || sent_away)
		drop(c, rc != 0 ? why : "the server sends changes away");
	c->next_ping_ms = now(c) + PING_MS;
	queue_answer(c->queue, batch);
}

/* Keeps the fence, and finds out whether the server is still there, and still the master. */
static void ping(struct changer *c)
{
	char why[200] = "";
	redisReply *reply = NULL;
	command_begin(conn_out(c->conn), 3);
	command_text(conn_out(c->conn), "PEXPIRE");
	command_format(conn_out(c->conn), KEY_FENCE, c->owner->prefix, c->owner->instance);
	command_format(conn_out(c->conn), "%d", FENCE_MS);
	int rc = conn_ask(c->conn, now(c) + c->o->answer_ms, "PEXPIRE", &reply, (struct words){ why, sizeof why });
	if (rc == 0 && reply->integer == 0)
		rc = words_set((struct words){ why, sizeof why }, TUNNEL_UNAVAILABLE,
			       "the server has lost what was written");
	freeReplyObject(reply);
	c->next_ping_ms = now(c) + PING_MS;
	if (rc != 0)
		drop(c, why);
}

static void purge(struct changer *c)
{
	char why[200] = "";
	redisReply *reply = NULL;
	struct change *change = change_new_purge(c->owner, PURGE_ROWS);
	c->next_purge_ms = now(c) + c->o->purge_ms;
	if (!change)
		return;
	change_send(change, c->fence, conn_out(c->conn));
	change_free(change);
	int64_t until_ms = now(c) + c->o->answer_ms;
	int rc = conn_flush(c->conn, until_ms, (struct words){ why, sizeof why });
	if (rc == 0)
		rc = conn_hear(c->conn, until_ms, &reply, (struct words){ why, sizeof why });
	if (rc != 0)
		drop(c, why);
	else if (reply_number(reply, 0) == ANSWER_DONE && reply_number(reply, 1) == (long long)PURGE_ROWS)
		c->next_purge_ms = 0; /* the rest follows, with callers' changes in between */
	freeReplyObject(reply);
}

static void serve(struct changer *c)
{
	if (!conn_is_quiet(c->conn)) { /* before anything is sent into it */
		drop(c, "the server has closed it");
		return;
	}
	run_batch(c, queue_take(c->queue, BATCH_MAX, BATCH_BYTES_MAX));
	if (c->conn && now(c) >= c->next_ping_ms)
		ping(c);
	if (c->conn && now(c) >= c->next_purge_ms)
		purge(c);
}

static void *changer_main(void *arg)
{
	struct changer *c = arg;
	int64_t until_ms;
	do {
		if (c->conn)
			serve(c);
		if (!c->conn)
			seek(c);
		until_ms = !c->conn                             ? c->next_try_ms
			   : c->next_ping_ms < c->next_purge_ms ? c->next_ping_ms
								: c->next_purge_ms;
	} while (wait_for_work(c, until_ms > 0 ? until_ms : 1));
	return NULL;
}

int changer_start(const struct tunnel_host *host, struct redis_options *o, const struct owner *owner, struct master *m,
		  struct queue *q, int stop_fd, struct changer **out_changer, struct words w)
{
	struct changer *c = calloc(1, sizeof *c);
	if (!c)
		return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	*c = (struct changer){ .host = host, .o = o, .owner = owner, .master = m, .queue = q, .stop_fd = stop_fd };
	c->dial = (struct dial){ .host = host,
				 .tls = &o->tls,
				 .account = &o->account,
				 .database = o->database,
				 .stop_fd = stop_fd,
				 .connect_ms = o->connect_ms };
	c->next_purge_ms = now(c) + o->purge_ms;
	int rc = connect_blocking(c, w);
	if (rc == 0) {
		connected(c);
		c->has_thread = thread_start(&c->thread, changer_main, c);
		if (!c->has_thread)
			rc = words_set(w, TUNNEL_UNAVAILABLE, "cannot start a thread");
	}
	if (rc != 0)
		changer_stop(&c);
	else
		*out_changer = c;
	return rc;
}

void changer_stop(struct changer **changer)
{
	struct changer *c = *changer;
	if (!c)
		return;
	if (c->has_thread)
		pthread_join(c->thread, NULL);
	conn_close(&c->conn);
	free(c);
	*changer = NULL;
}
