/* Loads plugins (dlopen) and checks everything about them before their first call. The only user of <dlfcn.h> in the
 * server. */
#ifndef SERVER_PLUGIN_HOST_H
#define SERVER_PLUGIN_HOST_H

#include "base/conf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdio.h>
#include <tunnel/auth.h>
#include <tunnel/store.h>

struct metrics;
struct plugin; /* one instance of a loaded plugin */

/* Loads <plugin_dir>/<name>.so, where section's key "plugin" is the name (or an absolute path), checks the rest of the
 * section against the plugin's option table, opens an instance. Refusals name file, expected and found: wrong kind, ABI
 * major, missing entry, short table, name mismatch, writable by others (file or folder), unknown, repeated, missing or
 * out-of-range option with its file:line. */
int plugin_open(const char *plugin_dir, const struct conf_section *section, enum tunnel_kind kind,
		struct metrics *metrics, struct plugin **out_plugin, struct err *e);
/* The same up to, and without, opening an instance: nothing of the plugin's own has run but its entry. */
int plugin_check(const char *plugin_dir, const struct conf_section *section, enum tunnel_kind kind, struct err *e);
void plugin_close(struct plugin **plugin);
const char *plugin_name(const struct plugin *p);
/* 0 when it has no reload. Waits some seconds for its turn: ERR_TIMEOUT. */
int plugin_reload(struct plugin *p, struct err *e);
/* So many calls may be at it at once (0, as at first: any number). One more waits for a moment, and is UNAVAILABLE when
 * none of them comes back: fewer than the workers of a lane, and a plugin that hangs leaves work for other plugins.
 * Calls that are at it already do not count. */
void plugin_limit_calls(struct plugin *p, unsigned places);
/* --describe-plugin: name, version, kind, ABI, option table. */
int plugin_describe(const char *plugin_dir, const char *name, FILE *to, struct err *e);
/* Is that option of a section declared SECRET? For --print-config; true when the plugin cannot be asked. */
bool plugin_option_is_secret(const char *plugin_dir, const struct conf_section *section, const char *key);

/* Calls with SERIAL locking, size handling and result checking done here (a result outside enum tunnel_result becomes
 * INTERNAL). Blocking: workers only. Results are enum tunnel_result. err gets the plugin's words. */
int plugin_auth_verify_blocking(struct plugin *p, const struct tunnel_call *call,
				const struct tunnel_auth_request *request, struct tunnel_identity *out);
/* The credential that the request claims to carry (TUNNEL_CREDENTIAL_MAX bytes at out): clean text, not empty. NOT_MINE
 * when the plugin has no claim. */
int plugin_auth_claim_blocking(struct plugin *p, const struct tunnel_call *call,
			       const struct tunnel_auth_request *request, char *out);
bool plugin_auth_authorizes(const struct plugin *p); /* it has an authorize */
int plugin_auth_authorize_blocking(struct plugin *p, const struct tunnel_call *call,
				   const struct tunnel_identity *identity, const char *action, const char *resource,
				   const char *context); /* NOT_MINE when it has none */
int plugin_store_get_blocking(struct plugin *p, const struct tunnel_call *call, const char *collection, const char *key,
			      tunnel_row_fn *row, void *arg);
int plugin_store_put_blocking(struct plugin *p, const struct tunnel_call *call, const struct tunnel_put *put,
			      uint64_t *out_version);
int plugin_store_del_blocking(struct plugin *p, const struct tunnel_call *call, const char *collection, const char *key,
			      uint64_t expect_version);
int plugin_store_scan_blocking(struct plugin *p, const struct tunnel_call *call, const struct tunnel_scan *scan,
			       tunnel_row_fn *row, void *arg, char *out_cursor);
int plugin_store_append_blocking(struct plugin *p, const struct tunnel_call *call, const char *log, const char *record,
				 size_t len, uint64_t *out_seq);
/* The first *out_n of the records: all, or just one of a plugin that takes them singly. *out_n is 0 unless TUNNEL_OK.
 */
int plugin_store_append_many_blocking(struct plugin *p, const struct tunnel_call *call, const char *log,
				      const struct tunnel_record *records, size_t n, size_t *out_n,
				      uint64_t *out_first_seq);
int plugin_store_read_blocking(struct plugin *p, const struct tunnel_call *call, const char *log, uint64_t from,
			       uint32_t limit, tunnel_row_fn *row, void *arg);
int plugin_store_publish_blocking(struct plugin *p, const struct tunnel_call *call, const char *channel,
				  const char *message, size_t len);
int plugin_store_subscribe_blocking(struct plugin *p, const struct tunnel_call *call, tunnel_event_fn *event,
				    void *arg);
int plugin_store_health_blocking(struct plugin *p, const struct tunnel_call *call);

#endif
