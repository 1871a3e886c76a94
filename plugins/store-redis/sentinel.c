#include "master.h"

#include <stdio.h>

#define ADDRESSES_MAX 4u /* of one Sentinel's name */

static int ask_at(struct conn *c, const char *master_name, int64_t until_ms, char out_text[300], struct words w)
{
	redisReply *reply = NULL;
	command_begin(conn_out(c), 3);
	command_text(conn_out(c), "SENTINEL");
	command_text(conn_out(c), "get-master-addr-by-name");
	command_text(conn_out(c), master_name);
	int rc = conn_ask(c, until_ms, "SENTINEL get-master-addr-by-name", &reply, w);
	if (rc != 0)
		return rc;
	const redisReply *host = reply_text(reply, 0), *port = reply_text(reply, 1);
	if (host && port && host->str[0] != '/') /* a path is none that it could have */
		snprintf(out_text, 300, strchr(host->str, ':') ? "[%s]:%s" : "%s:%s", host->str, port->str);
	else
		rc = words_set(w, TUNNEL_UNAVAILABLE, "it knows no master of the name \"%s\"", master_name);
	freeReplyObject(reply);
	return rc;
}

static int ask_one(const struct dial *dial, const struct redis_options *o, const char *sentinel, char out_text[300],
		   struct words w)
{
	struct endpoint at[ADDRESSES_MAX];
	struct conn *c = NULL;
	char why[200] = "";
	struct words inner = { why, sizeof why };
	size_t n = 0;
	int rc = endpoint_find_blocking(sentinel, at, ADDRESSES_MAX, &n, inner);
	for (size_t i = 0; rc == 0 && !c && i < n; i++) {
		rc = conn_open(dial, &at[i], 0, &c, inner);
		if (rc != 0 && i + 1 < n)
			rc = 0;
	}
	if (rc == 0)
		rc = ask_at(c, o->master_name, dial->host->mono_ms(dial->host->ctx) + o->connect_ms, out_text, inner);
	conn_close(&c);
	return rc == 0 ? 0 : words_set(w, rc, "Sentinel %s: %s", sentinel, why);
}

/* The next search begins with the one that knew. */
static void put_first(struct redis_options *o, size_t i)
{
	char *knew = o->sentinels[i];
	memmove(&o->sentinels[1], &o->sentinels[0], i * sizeof *o->sentinels);
	o->sentinels[0] = knew;
}

int sentinel_ask_blocking(const struct dial *dial, struct redis_options *o, struct endpoint *out, size_t max,
			  size_t *out_n, struct words w)
{
	char text[300];
	int rc = TUNNEL_UNAVAILABLE;
	for (size_t i = 0; rc != 0 && i < o->sentinel_count; i++) {
		rc = ask_one(dial, o, o->sentinels[i], text, w);
		if (rc == 0)
			put_first(o, i);
	}
	return rc == 0 ? endpoint_find_blocking(text, out, max, out_n, w) : rc;
}
