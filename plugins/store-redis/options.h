#ifndef REDIS_OPTIONS_H
#define REDIS_OPTIONS_H

#include "conn.h"

#define SENTINELS_MAX 16u

struct redis_options {
	char *address; /* host:port or the path of a socket; NULL: Sentinels know */
	char *sentinels[SENTINELS_MAX];
	size_t sentinel_count;
	char *master_name;
	struct account account, sentinel_account;
	struct tls_options tls;
	char *prefix; /* in keys it stands in braces, so that all are in one hash slot */
	long database;
	size_t connections; /* for reading and publishing */
	long wait_replicas;
	int64_t wait_ms, answer_ms, connect_ms, purge_ms;
};

extern const struct tunnel_option_spec redis_option_table[];

/* What the table allows is checked already; here: what goes together. 0 or TUNNEL_CONFIG with words. */
int redis_options_take(struct redis_options *o, const struct tunnel_option *options, size_t n, struct words w);
void redis_options_clear(struct redis_options *o);

/* "host:port", "[address]:port" or "/path". May block as long as names take to look up. All addresses of a name, at
 * most max. */
int endpoint_find_blocking(const char *text, struct endpoint *out, size_t max, size_t *out_n, struct words w);
/* 0 when the text has one of these forms. */
int endpoint_check(const char *text, struct words w);

#endif
