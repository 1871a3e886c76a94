/* The registry of nodes. A node that dies is missed when its document has expired; nobody depends on that being quick:
 * ends and agents find out by themselves that it is gone. A store that is away, or has just come back without the
 * documents, makes nobody believe that nodes are gone: one counts as gone when it was missing in several looks that
 * succeeded, one after the other. */
#include "server/nodes.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/secret.h"
#include "server/control.h"
#include "server/server.h"
#include "server/session_record.h"
#include "server/sessions.h"
#include "server/sshca.h"
#include "server/store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COLLECTION "nodes"
#define RENEW_MS 2000
#define EXPIRES_MS 10000 /* clocks of nodes may differ by some seconds */
#define MISSED_MOST 2    /* looks */
#define LOADS_MOST 2000u /* targets with sessions that a document tells of */

struct nodes {
	struct server *server;
	char incarnation[25];
	int64_t started_ms;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t thread;
	bool runs, stop;
	json_t *others;   /* name → its document, with "missed" */
	uint64_t version; /* of our document; the thread's */
	bool failing, contested;
};

/* ---- our own ---- */

static json_t *make_doc(const struct nodes *n)
{
	const struct server *server = n->server;
	return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:b, s:I, s:I, s:o}", "name", server->node, "url",
			 server->public_url, "version", TUNNEL_VERSION, "incarnation", n->incarnation, "started_ms",
			 (json_int_t)n->started_ms, "seen_ms", (json_int_t)clock_wall_ms(), "draining",
			 (int)atomic_load(&server->draining), "agents",
			 (json_int_t)control_agents_anythread(server->control), "sessions",
			 (json_int_t)sessions_count_anythread(server->sessions, NULL), "loads",
			 sessions_loads_anythread(server->sessions, LOADS_MOST));
}

/* Certificates of one node must be good on the others. */
static json_t *ca_of(const struct nodes *n)
{
	return n->server->sshca ? sshca_public(n->server->sshca, NULL) : json_array();
}

static bool shares_a_ca(const json_t *ours, const json_t *theirs)
{
	bool shared = json_array_size(ours) == 0 || json_array_size(theirs) == 0;
	for (size_t i = 0; i < json_array_size(ours); i++)
		for (size_t k = 0; k < json_array_size(theirs); k++)
			shared = shared || json_equal(json_array_get(ours, i), json_array_get(theirs, k));
	return shared;
}

static int put(struct nodes *n, uint64_t expect, struct err *e)
{
	json_auto_t *doc = make_doc(n);
	if (!doc || json_object_set_new(doc, "ssh_cas", ca_of(n)) != 0)
		return err_set(e, ERR_NOMEM, "out of memory");
	return store_put_blocking(n->server->store, COLLECTION, n->server->node, doc, expect,
				  clock_wall_ms() + EXPIRES_MS, NULL, &n->version, e);
}

/* Somebody else has written under our name. */
static void take_back(struct nodes *n, struct err *e)
{
	json_auto_t *doc = NULL;
	int rc = store_get_blocking(n->server->store, COLLECTION, n->server->node, &doc, NULL, e);
	bool others = rc == 0 && strcmp(record_text(doc, "incarnation"), n->incarnation) != 0;
	if (others && !n->contested)
		log_with(LOG_LEVEL_ERROR, FIELDS({ "node", n->server->node }, { "other", record_text(doc, "url") }),
			 "another server runs under this node's name: sessions of both will suffer");
	n->contested = others;
}

static int renew(struct nodes *n, struct err *e)
{
	int rc = put(n, n->version, e);
	if (rc != ERR_CONFLICT)
		return rc;
	take_back(n, e);
	return put(n, TUNNEL_VERSION_ANY, e);
}

/* ---- the others' ---- */

static int collect(void *arg, const char *key, json_t *doc, uint64_t version)
{
	(void)version;
	json_object_set(arg, key, doc);
	return 0;
}

static int scan(struct nodes *n, json_t *found, struct err *e)
{
	char cursor[TUNNEL_CURSOR_MAX] = "";
	int rc;
	do
		rc = store_scan_blocking(n->server->store, COLLECTION, NULL, NULL, LIMIT_SCAN_PAGE, cursor, collect,
					 found, e);
	while (rc == 0 && *cursor);
	return rc;
}

static int look(struct nodes *n, struct err *e)
{
	json_auto_t *found = json_object();
	const char *name;
	json_t *doc;
	int rc = scan(n, found, e);
	if (rc)
		return rc;
	json_object_del(found, n->server->node);
	pthread_mutex_lock(&n->lock);
	json_object_foreach(n->others, name, doc)
	{
		json_int_t missed = json_integer_value(json_object_get(doc, "missed")) + 1;
		if (json_object_get(found, name))
			continue;
		bool left = json_is_true(json_object_get(doc, "draining")); /* it took its document away itself */
		if (missed <= MISSED_MOST && !left) {
			json_object_set_new(doc, "missed", json_integer(missed));
			json_object_set(found, name, doc);
		} else {
			log_with(LOG_LEVEL_WARN, FIELDS({ "node", name }), "a node is gone");
		}
	}
	json_auto_t *cas = ca_of(n);
	json_object_foreach(found, name, doc)
	{
		if (json_object_get(n->others, name))
			continue;
		log_with(LOG_LEVEL_INFO, FIELDS({ "node", name }, { "url", record_text(doc, "url") }),
			 "another node is there");
		if (strcmp(record_text(doc, "url"), n->server->public_url) == 0)
			log_with(LOG_LEVEL_ERROR, FIELDS({ "node", name }, { "url", record_text(doc, "url") }),
				 "it has this node's advertise_url: sessions of both will suffer");
		if (!shares_a_ca(cas, json_object_get(doc, "ssh_cas")))
			log_with(LOG_LEVEL_ERROR, FIELDS({ "node", name }),
				 "its SSH certificate authority is another one than this node's, so sessions that "
				 "change "
				 "their node fail: give all nodes the same ssh.ca_key");
	}
	json_decref(n->others);
	n->others = json_incref(found);
	pthread_mutex_unlock(&n->lock);
	return 0;
}

static void *nodes_main(void *arg)
{
	struct nodes *n = arg;
	pthread_mutex_lock(&n->lock);
	while (!n->stop) {
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += RENEW_MS / 1000;
		pthread_cond_timedwait(&n->wake, &n->lock, &until);
		if (n->stop)
			break;
		pthread_mutex_unlock(&n->lock);
		struct err e;
		int rc = renew(n, &e);
		if (rc == 0)
			rc = look(n, &e);
		if (rc && !n->failing)
			log_warn("the other nodes cannot be told that this one lives: %s", e.text);
		n->failing = rc != 0;
		pthread_mutex_lock(&n->lock);
	}
	pthread_mutex_unlock(&n->lock);
	return NULL;
}

/* ---- start and stop ---- */

/* Is the document of that name renewed? Its server lives, then. */
static int check_renewed(struct nodes *n, const char *name, bool *out_lives, struct err *e)
{
	json_auto_t *doc = NULL;
	uint64_t before = 0, now = 0;
	int rc = store_get_blocking(n->server->store, COLLECTION, name, &doc, &before, e);
	const int64_t until = clock_mono_ms() + RENEW_MS * 2;
	*out_lives = false;
	while (rc == 0 && !*out_lives && clock_mono_ms() < until) {
		json_auto_t *again = NULL;
		const struct timespec tick = { .tv_nsec = 100000000 };
		nanosleep(&tick, NULL);
		rc = store_get_blocking(n->server->store, COLLECTION, name, &again, &now, e);
		*out_lives = rc == 0 && now != before;
	}
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* A document under our name with another URL, or under another name with our URL: that of a server that was killed and
 * has moved or is called otherwise now, or of one that lives. Two nodes with one name, or one URL, would take each
 * other's sessions for their own. */
static int check_alone(struct nodes *n, struct err *e)
{
	json_auto_t *found = json_object();
	const char *name;
	json_t *doc;
	int rc = scan(n, found, e);
	json_object_foreach(found, name, doc)
	{
		const char *url = record_text(doc, "url");
		bool named = strcmp(name, n->server->node) == 0, lives = false;
		if (rc || named == (strcmp(url, n->server->public_url) == 0))
			continue;
		rc = check_renewed(n, name, &lives, e);
		if (lives && named)
			rc = err_set(e, ERR_CONFLICT,
				     "node: \"%s\" is the name of a server that runs already, %s; each node needs its "
				     "own",
				     name, url);
		else if (lives)
			rc = err_set(e, ERR_CONFLICT,
				     "advertise_url: %s is that of node %s, which runs already; each node needs its "
				     "own",
				     url, name);
	}
	return rc;
}

int nodes_start_blocking(struct server *server, struct nodes **out_nodes, struct err *e)
{
	struct nodes *n = calloc(1, sizeof *n);
	if (!n)
		return err_set(e, ERR_NOMEM, "out of memory");
	n->server = server;
	n->started_ms = clock_wall_ms();
	n->others = json_object();
	secret_random_id(n->incarnation, sizeof n->incarnation - 1);
	pthread_mutex_init(&n->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&n->wake, &attr);
	pthread_condattr_destroy(&attr);
	int rc = check_alone(n, e);
	if (rc == 0)
		rc = put(n, TUNNEL_VERSION_ANY, e);
	if (rc == 0)
		rc = look(n, e);
	if (rc == 0) {
		int errnum = pthread_create(&n->thread, NULL, nodes_main, n);
		n->runs = errnum == 0;
		rc = errnum ? err_set_errno(e, ERR_INTERNAL, errnum, "the registry's thread could not start") : 0;
	}
	*out_nodes = n;
	if (rc)
		nodes_stop(out_nodes);
	return rc;
}

static void halt(struct nodes *n)
{
	pthread_mutex_lock(&n->lock);
	n->stop = true;
	pthread_cond_signal(&n->wake);
	pthread_mutex_unlock(&n->lock);
	if (n->runs)
		pthread_join(n->thread, NULL);
}

void nodes_stop(struct nodes **nodes)
{
	struct nodes *n = *nodes;
	struct err e;
	if (!n)
		return;
	halt(n);
	if (n->runs) /* only what is still ours */
		store_del_blocking(n->server->store, COLLECTION, n->server->node, n->version, &e);
	pthread_cond_destroy(&n->wake);
	pthread_mutex_destroy(&n->lock);
	json_decref(n->others);
	free(n);
	*nodes = NULL;
}

void nodes_tell_draining_blocking(struct nodes *n)
{
	pthread_mutex_lock(&n->lock);
	pthread_cond_signal(&n->wake);
	pthread_mutex_unlock(&n->lock);
}

/* ---- questions ---- */

bool nodes_lives(struct nodes *n, const char *name)
{
	if (!n)
		return false;
	pthread_mutex_lock(&n->lock);
	bool lives = strcmp(name, n->server->node) == 0 || json_object_get(n->others, name);
	pthread_mutex_unlock(&n->lock);
	return lives;
}

json_t *nodes_others(struct nodes *n)
{
	json_t *names = json_array();
	const char *name;
	json_t *doc;
	if (!n)
		return names;
	pthread_mutex_lock(&n->lock);
	json_object_foreach(n->others, name, doc) json_array_append_new(names, json_string(name));
	pthread_mutex_unlock(&n->lock);
	return names;
}

bool nodes_has_heir(struct nodes *n)
{
	bool found = false;
	const char *name;
	json_t *doc;
	if (!n)
		return false;
	pthread_mutex_lock(&n->lock);
	json_object_foreach(n->others, name, doc) found = found || !json_is_true(json_object_get(doc, "draining"));
	pthread_mutex_unlock(&n->lock);
	return found;
}

bool nodes_is_first(struct nodes *n)
{
	bool first = true;
	const char *name;
	json_t *doc;
	if (!n)
		return true;
	pthread_mutex_lock(&n->lock);
	json_object_foreach(n->others, name, doc) first = first && strcmp(n->server->node, name) < 0;
	pthread_mutex_unlock(&n->lock);
	return first;
}

size_t nodes_sessions(struct nodes *n, const char *target)
{
	json_int_t sum = 0;
	const char *name;
	json_t *doc;
	if (!n)
		return 0;
	pthread_mutex_lock(&n->lock);
	json_object_foreach(n->others, name, doc) sum +=
		json_integer_value(json_object_get(json_object_get(doc, "loads"), target));
	pthread_mutex_unlock(&n->lock);
	return (size_t)sum;
}

static json_t *view(const json_t *doc)
{
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:b, s:I, s:I}", "name", record_text(doc, "name"), "url",
			 record_text(doc, "url"), "version", record_text(doc, "version"), "started_at",
			 record_time(record_int(doc, "started_ms")), "last_seen",
			 record_time(record_int(doc, "seen_ms")), "draining",
			 json_is_true(json_object_get(doc, "draining")), "agents",
			 (json_int_t)record_int(doc, "agents"), "sessions", (json_int_t)record_int(doc, "sessions"));
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void add_by_name(json_t *out, json_t *all)
{
	size_t n = 0;
	const char **names = calloc(json_object_size(all) + 1, sizeof *names), *name;
	json_t *doc;
	if (!names)
		return;
	json_object_foreach(all, name, doc) names[n++] = name;
	qsort(names, n, sizeof *names, compare_names);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(out, view(json_object_get(all, names[i])));
	free(names);
}

json_t *nodes_view(struct nodes *n)
{
	json_t *out = json_array();
	json_auto_t *own = n ? make_doc(n) : NULL;
	if (!own)
		return out;
	pthread_mutex_lock(&n->lock);
	json_auto_t *all = json_deep_copy(n->others);
	pthread_mutex_unlock(&n->lock);
	json_object_set(all, n->server->node, own);
	add_by_name(out, all);
	return out;
}
