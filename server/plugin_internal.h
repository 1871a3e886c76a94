/* What the files of the plugin host share, and tests that look below it. Nobody else includes this. */
#ifndef SERVER_PLUGIN_INTERNAL_H
#define SERVER_PLUGIN_INTERNAL_H

#include "server/plugin_host.h"

#include <pthread.h>
#include <stdatomic.h>

struct plugin {
	void *library; /* of dlopen */
	char *file;
	char name[65];
	struct tunnel_plugin desc; /* copied; members its build did not know are zero */
	union {
		struct tunnel_auth_ops auth;
		struct tunnel_store_ops store;
	} ops;
	struct tunnel_host host;
	struct metrics *metrics;
	void *instance;
	bool is_open;
	/* The turn of a SERIAL instance, and the places of any: a flag and a count with a condition instead of a plain
	 * mutex, so that waiting for them can end at the call's deadline. */
	pthread_mutex_t lock;
	pthread_cond_t moved; /* a call has come back, or given up */
	bool turn_taken;
	atomic_uint places; /* 0: any number, and nobody takes one */
	unsigned calls;     /* with a place: at it, or waiting for their turn */
	int64_t moved_ms;   /* when a call last came back, or the first began */
};

#define PLUGIN_ANY_KIND ((enum tunnel_kind)0)

/* plugin_load.c: the file is trusted, its descriptor checked and copied; no instance yet. name may be an absolute path.
 * where is put before the text of a refusal. */
int plugin_load(const char *plugin_dir, const char *name, const char *where, enum tunnel_kind kind,
		struct plugin **out_plugin, struct err *e);
void plugin_unload(struct plugin **plugin);
const char *plugin_kind_text(uint32_t kind);

/* plugin_options.c */
struct option_values {
	struct tunnel_option *at;
	size_t n;
};
/* The table itself: sizes, key names, types, defaults. */
int plugin_options_check_table(const struct plugin *p, struct err *e);
/* The values of a section, checked, with defaults, in the table's order. */
/* Keys that a section may have beside the plugin's options, which are not called so. */
bool plugin_options_are_ours(const char *key);
int plugin_options_check(const struct plugin *p, const struct conf_section *section, struct option_values *out,
			 struct err *e);
void plugin_options_free(struct option_values *values); /* wipes the values */
void plugin_options_describe(const struct plugin *p, FILE *to);
/* Copies row i; false behind the last one. */
bool plugin_options_row(const struct plugin *p, size_t i, struct tunnel_option_spec *out);

/* plugin_calls.c: 0 or TUNNEL_TIMEOUT when the turn did not come before the deadline (0: waits for ever). */
int plugin_turn_take(struct plugin *p, int64_t deadline_ms);
void plugin_turn_give(struct plugin *p);

#endif
