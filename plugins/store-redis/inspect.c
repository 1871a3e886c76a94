#include "master.h"

#include <stdio.h>
#include <stdlib.h>

#define OLDEST_MAJOR 7 /* streams that number their records by themselves (XADD 0-*) */

/* The value behind "name:" in what INFO says; "" when it is not there. */
static const char *fact(const char *info, const char *name, char *out, size_t size)
{
	size_t n = strlen(name);
	out[0] = '\0';
	for (const char *line = info; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, n) == 0 && line[n] == ':') {
			snprintf(out, size, "%.*s", (int)strcspn(line + n + 1, "\r\n"), line + n + 1);
			break;
		}
	}
	return out;
}

static int judge(const char *info, const struct endpoint *server, struct words w)
{
	char value[64], port[64];
	if (atoi(fact(info, "redis_version", value, sizeof value)) < OLDEST_MAJOR)
		return words_set(w, TUNNEL_CONFIG, "Redis at %s is version %s; allowed: %d.0 or newer", server->name,
				 value[0] ? value : "(it does not say)", OLDEST_MAJOR);
	if (strcmp(fact(info, "redis_mode", value, sizeof value), "standalone") != 0)
		return words_set(
			w, TUNNEL_CONFIG,
			"Redis at %s runs as %s; allowed: a single master, with replicas and Sentinels or without",
			server->name, value);
	if (strcmp(fact(info, "maxmemory_policy", value, sizeof value), "noeviction") != 0)
		return words_set(w, TUNNEL_CONFIG,
				 "Redis at %s has maxmemory-policy %s, which may throw away what was promised to be "
				 "kept; allowed: noeviction",
				 server->name, value);
	if (strcmp(fact(info, "role", value, sizeof value), "master") != 0)
		return words_set(w, TUNNEL_UNAVAILABLE, "Redis at %s is a replica of %s:%s; allowed: the master",
				 server->name, fact(info, "master_host", value, sizeof value),
				 fact(info, "master_port", port, sizeof port));
	if (strcmp(fact(info, "loading", value, sizeof value), "1") == 0)
		return words_set(w, TUNNEL_UNAVAILABLE, "Redis at %s is reading its data from disk", server->name);
	return 0;
}

int inspect(struct conn *c, const struct endpoint *server, int64_t until_ms, char out_identity[IDENTITY_MAX],
	    struct words w)
{
	char why[200] = "", run[64], replication[64];
	redisReply *reply = NULL;
	command_begin(conn_out(c), 1);
	command_text(conn_out(c), "INFO");
	int rc = conn_ask(c, until_ms, "INFO", &reply, (struct words){ why, sizeof why });
	if (rc != 0)
		return words_set(w, rc, "Redis at %s: %s", server->name, why);
	rc = reply->type == REDIS_REPLY_STRING
		     ? judge(reply->str, server, w)
		     : words_set(w, TUNNEL_UNAVAILABLE, "Redis at %s: INFO says nothing", server->name);
	if (rc == 0)
		snprintf(out_identity, IDENTITY_MAX, "%.60s %.60s", fact(reply->str, "run_id", run, sizeof run),
			 fact(reply->str, "master_replid", replication, sizeof replication));
	freeReplyObject(reply);
	return rc;
}

static void warn(const struct tunnel_host *host, const struct endpoint *server, const char *what)
{
	char text[400];
	snprintf(text, sizeof text, "Redis at %s: %s", server->name, what);
	host->log(host->ctx, TUNNEL_LOG_WARN, text);
}

/* Some versions read the append-only file as the user default, and drop, with no more than a line in their log, each
 * transaction of it that he may not make. What a script writes is one. A user that is off still has his rights. */
static bool default_may_write(struct conn *c, const char *prefix, int64_t until_ms)
{
	static const char *const writes[][5] = { { "SET", "", "x" },       { "DEL", "" },
						 { "PEXPIREAT", "", "1" }, { "ZADD", "", "1", "x" },
						 { "ZREM", "", "x" },      { "XADD", "", "*", "x", "x" } };
	bool may = true;
	for (size_t i = 0; may && i < sizeof writes / sizeof *writes; i++) {
		char why[200] = "";
		redisReply *reply = NULL;
		size_t n = 0;
		while (n < 5 && writes[i][n])
			n++;
		command_begin(conn_out(c), 3 + n);
		command_text(conn_out(c), "ACL");
		command_text(conn_out(c), "DRYRUN");
		command_text(conn_out(c), "default");
		for (size_t k = 0; k < n; k++)
			if (writes[i][k][0])
				command_text(conn_out(c), writes[i][k]);
			else
				command_format(conn_out(c), "{%s}:probe", prefix);
		if (conn_ask(c, until_ms, "ACL DRYRUN", &reply, (struct words){ why, sizeof why }) != 0)
			return true;                     /* an ACL that forbids it: the operator knows what was set */
		may = reply->type != REDIS_REPLY_STRING; /* a sentence about what is missing */
		freeReplyObject(reply);
	}
	return may;
}

void inspect_durability(struct conn *c, const struct tunnel_host *host, const struct endpoint *server,
			const char *prefix, int64_t until_ms)
{
	char why[200] = "";
	struct words w = { why, sizeof why };
	static const char *const settings[] = { "appendonly", "appendfsync" };
	char values[2][32] = { "", "" };
	for (size_t i = 0; i < 2; i++) {
		redisReply *reply = NULL;
		command_begin(conn_out(c), 3);
		command_text(conn_out(c), "CONFIG");
		command_text(conn_out(c), "GET");
		command_text(conn_out(c), settings[i]);
		if (conn_ask(c, until_ms, "CONFIG GET", &reply, w) != 0)
			return; /* an ACL that forbids CONFIG: the operator knows what was set */
		if (reply_text(reply, 1))
			snprintf(values[i], sizeof values[i], "%s", reply_text(reply, 1)->str);
		freeReplyObject(reply);
	}
	if (strcmp(values[0], "yes") != 0)
		warn(host, server,
		     "appendonly is off: when it stops, what was answered since its last snapshot is lost");
	else if (strcmp(values[1], "always") != 0 && strcmp(values[1], "everysec") != 0)
		warn(host, server,
		     "appendfsync is no: when its machine stops, what was answered in the last half minute or so "
		     "is lost");
	else if (strcmp(values[1], "always") != 0)
		host->log(host->ctx, TUNNEL_LOG_INFO,
			  "Redis has appendfsync everysec: when its machine stops, up to two seconds of what was "
			  "answered are lost");
	if (strcmp(values[0], "yes") == 0 && !default_may_write(c, prefix, until_ms))
		warn(host, server,
		     "its user default may not write these keys: many versions then throw away what was answered when "
		     "they are started again; to shut him out without that: user default off ~* &* +@all");
}
