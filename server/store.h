/* The session store as the server uses it: JSON in and out, one deadline for all, results as err codes. Blocking:
 * workers only. */
#ifndef SERVER_STORE_H
#define SERVER_STORE_H

#include "base/err.h"
#include "server/plugin_host.h"

#include <jansson.h>

#define STORE_RECORDS_MAX 64u /* of one append */

struct store;

int store_open(const char *plugin_dir, const struct conf_section *section, struct metrics *metrics,
	       struct store **out_store, struct err *e);
void store_close(struct store **store);
struct plugin *store_plugin(struct store *store);
int store_reload(struct store *store, struct err *e); /* what its options name is read again */

/* 0 and a new reference; ERR_NOT_FOUND; ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_INTERNAL. */
int store_get_blocking(struct store *store, const char *collection, const char *key, json_t **out_doc,
		       uint64_t *out_version, struct err *e);
/* 0; ERR_CONFLICT. expect as in tunnel/store.h. indexes end with name NULL; may be NULL. */
int store_put_blocking(struct store *store, const char *collection, const char *key, const json_t *doc, uint64_t expect,
		       int64_t expires_ms, const struct tunnel_index *indexes, uint64_t *out_version, struct err *e);
int store_del_blocking(struct store *store, const char *collection, const char *key, uint64_t expect, struct err *e);
typedef int store_doc_fn(void *arg, const char *key, json_t *doc, uint64_t version); /* borrowed doc; not 0 stops */
/* One page. index NULL: all keys (value is then a prefix, or NULL). cursor: TUNNEL_CURSOR_MAX bytes, in and out; "" at
 * start and end. */
int store_scan_blocking(struct store *store, const char *collection, const char *index, const char *value,
			uint32_t limit, char *cursor, store_doc_fn *fn, void *arg, struct err *e);
/* Adds the first *out_n of 1 to STORE_RECORDS_MAX records, in order and with nothing between them; the first one's
 * number is *out_first. Fewer than n are no error: call again for the others. On an error none was added, or when
 * nobody answered, all or none of those that would have been. */
int store_append_blocking(struct store *store, const char *log, json_t *const *records, size_t n, size_t *out_n,
			  uint64_t *out_first, struct err *e);
int store_read_blocking(struct store *store, const char *log, uint64_t from, uint32_t limit, store_doc_fn *fn,
			void *arg, struct err *e);
int store_publish_blocking(struct store *store, const char *channel, const json_t *message, struct err *e);
/* One subscriber a process. fn runs on a thread of the plugin: hand over, do not work. */
int store_subscribe_blocking(struct store *store, tunnel_event_fn *fn, void *arg, struct err *e);
/* Whether it can serve: as of a second ago at most, or, while it takes longer than that to say, before. */
int store_health_blocking(struct store *store, struct err *e);

#endif
