/* The public plugin interface of tunnel-server: what every plugin, of whatever kind, exports and gets.
 *
 * A plugin is a shared object with one exported symbol, made by TUNNEL_PLUGIN_REGISTER. It uses the headers of this
 * folder and its own libraries; it needs no symbol of the server.
 *
 * Rules that hold for everything in these headers:
 *  - C99, and clean in C++.
 *  - Every struct begins with its size, as the side that made it sees it. The other side copies that much into zeroed
 * memory. Members are only ever appended; a missing member reads as zero, and zero is the safe value.
 *  - Text is UTF-8 and NUL-terminated unless a length stands beside it. Pointers that are passed in are valid until the
 * call returns; copy what you keep. No memory changes its owner.
 *  - Results: 0 yes; positive a definite no; negative "could not find out". Whatever is not 0 refuses.
 *  - Calls are synchronous, on a worker thread of the server, never on one that moves bytes. A plugin may block, but
 * should give up at call->deadline_ms. A later answer of an auth plugin is thrown away: it becomes TUNNEL_TIMEOUT,
 * which refuses. A later answer of a store counts: what it wrote is written.
 *
 * ABI history: 1.0 first. 1.1 tunnel_store_ops.append_many. 1.2 tunnel_auth_ops.claim.
 */
#ifndef TUNNEL_PLUGIN_H
#define TUNNEL_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TUNNEL_ABI_MAJOR 1u /* a foreign major is refused */
#define TUNNEL_ABI_MINOR 2u /* grows when members are appended */
#define TUNNEL_ABI (TUNNEL_ABI_MAJOR << 16 | TUNNEL_ABI_MINOR)

enum tunnel_kind {
	TUNNEL_KIND_AUTH = 1, /* ops is struct tunnel_auth_ops (auth.h) */
	TUNNEL_KIND_STORE = 2 /* ops is struct tunnel_store_ops (store.h) */
};

enum tunnel_threads {
	TUNNEL_THREADS_SERIAL = 0,  /* the host makes at most one call of an instance at a time */
	TUNNEL_THREADS_PARALLEL = 1 /* calls of one instance may run at the same time on several threads */
};

enum tunnel_result {
	TUNNEL_OK = 0,
	/* a definite no */
	TUNNEL_DENIED = 1,    /* auth: the credential is mine and it is wrong */
	TUNNEL_NOT_FOUND = 2, /* store: no such document */
	TUNNEL_CONFLICT = 3,  /* store: the version is another one */
	TUNNEL_NOT_MINE = 4,  /* auth: not a credential of my kind; ask the next plugin */
	/* could not find out */
	TUNNEL_UNAVAILABLE = -1, /* a server or file is away; may work later */
	TUNNEL_TIMEOUT = -2,
	TUNNEL_CONFIG = -3,  /* the options or files are wrong */
	TUNNEL_INVALID = -4, /* the caller's arguments break a rule of the interface */
	TUNNEL_INTERNAL = -5
};

enum tunnel_log_level { TUNNEL_LOG_ERROR = 0, TUNNEL_LOG_WARN = 1, TUNNEL_LOG_INFO = 2, TUNNEL_LOG_DEBUG = 3 };

/* What the host offers. Valid from open to the end of close; every function may be called from any thread. */
struct tunnel_host {
	size_t size;
	uint32_t abi; /* TUNNEL_ABI of the host */
	void *ctx;    /* first argument of all functions below */
	void (*log)(void *ctx, enum tunnel_log_level level, const char *text); /* never log a secret */
	int64_t (*wall_ms)(void *ctx);                                         /* Unix time in milliseconds */
	int64_t (*mono_ms)(void *ctx);                  /* monotonic milliseconds, the scale of deadline_ms */
	void (*random)(void *ctx, void *out, size_t n); /* cryptographic; never fails */
	/* Adds n to the counter tunnel_plugin_<plugin>_<name>_total, "_" for "-"; name is [a-z_]+. All plugins together
	 * have 64; further ones are not counted. */
	void (*count)(void *ctx, const char *name, uint64_t n);
};

/* Given to each operation. */
struct tunnel_call {
	size_t size;
	int64_t deadline_ms;    /* by host->mono_ms; 0: none */
	const char *request_id; /* for log lines; may be NULL */
	char *err;              /* write here, in words, why the result is not TUNNEL_OK; never a secret */
	size_t err_len;         /* bytes at err, with NUL; may be 0 */
};

enum tunnel_option_type {
	TUNNEL_OPTION_STRING = 0,
	TUNNEL_OPTION_INT = 1,  /* decimal, min..max */
	TUNNEL_OPTION_BOOL = 2, /* "true" or "false" */
	TUNNEL_OPTION_DURATION =
		3, /* handed over in milliseconds, decimal; written as "300ms", "30s", "15m", "12h", "7d" */
	TUNNEL_OPTION_SIZE = 4, /* handed over in bytes, decimal; written as "64k", "4M" */
	TUNNEL_OPTION_PATH = 5, /* handed over absolute */
	TUNNEL_OPTION_ENUM = 6  /* one of choices, "a|b|c" */
};

#define TUNNEL_OPTION_REQUIRED 1u
#define TUNNEL_OPTION_SECRET 2u /* never printed */
#define TUNNEL_OPTION_LIST 4u   /* may be given several times, in order; def counts as one value */
#define TUNNEL_OPTION_PRIVATE                                                                                      \
	8u /* PATH of a file that holds a secret: the host refuses one that is missing, or open to others than its \
	    * owner (0600), before open. A host that does not know the flag does not look: check when you read it */

/* One row of the plugin's option table. The table ends with a row whose key is NULL. The host checks type, range,
 * unknown and repeated keys before open, and names file:line in its complaints. */
struct tunnel_option_spec {
	size_t size;
	const char *key; /* [a-z][a-z0-9_]*; "plugin" and "provider" belong to the host */
	enum tunnel_option_type type;
	uint32_t flags;
	const char *def;  /* default as written in a file; NULL: none */
	int64_t min, max; /* INT, DURATION (ms), SIZE (bytes): range. STRING, PATH: length. Both 0: no bound */
	const char *choices;
	const char *help; /* one line */
};

/* One value, checked. A key with a default is always there. */
struct tunnel_option {
	size_t size;
	const char *key;
	const char *value;
	const char *where; /* "server.conf:42" or "default", for texts */
};

/* The descriptor; static const in the plugin. */
struct tunnel_plugin {
	size_t size;      /* sizeof(struct tunnel_plugin) */
	uint32_t abi;     /* TUNNEL_ABI */
	uint32_t kind;    /* enum tunnel_kind */
	uint32_t threads; /* enum tunnel_threads */
	const char *name; /* must equal the file's name without ".so": [a-z][a-z0-9-]* */
	const char *version;
	const struct tunnel_option_spec *options; /* NULL: no options */
	/* Makes an instance. Called once per configured use, before any operation, on one thread. host stays valid
	 * until close returns. options are only valid during the call. 0, or negative with a text in err that names the
	 * option. */
	int (*open)(const struct tunnel_host *host, const struct tunnel_option *options, size_t n, void **out_instance,
		    char *err, size_t err_len);
	/* After the last operation has returned. */
	void (*close)(void *instance);
	const void *ops; /* struct tunnel_auth_ops or struct tunnel_store_ops, by kind */
	/* Re-reads files the options name (keys, credentials). Called on SIGHUP; of a PARALLEL plugin beside
	 * operations, of a SERIAL one in its turn. May be NULL. On failure the old content stays in use. */
	int (*reload)(void *instance, char *err, size_t err_len);
};

#if defined(__GNUC__)
#define TUNNEL_EXPORT __attribute__((visibility("default")))
#else
#define TUNNEL_EXPORT
#endif

/* The exported symbol's name and type. */
#define TUNNEL_PLUGIN_ENTRY "tunnel_plugin_entry"
typedef const struct tunnel_plugin *tunnel_plugin_entry_fn(void);

#ifdef __cplusplus
#define TUNNEL_PLUGIN_REGISTER(descriptor)                                              \
	extern "C" TUNNEL_EXPORT const struct tunnel_plugin *tunnel_plugin_entry(void); \
	const struct tunnel_plugin *tunnel_plugin_entry(void)                           \
	{                                                                               \
		return &(descriptor);                                                   \
	}
}
#else
#define TUNNEL_PLUGIN_REGISTER(descriptor)                                   \
	TUNNEL_EXPORT const struct tunnel_plugin *tunnel_plugin_entry(void); \
	const struct tunnel_plugin *tunnel_plugin_entry(void)                \
	{                                                                    \
		return &(descriptor);                                        \
	}
#endif

#endif
