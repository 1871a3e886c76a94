/* A revocation's id is made from what it revokes, so there is one of each, and whoever looks needs no search. One is in
 * force here before it is in the store: what cannot be recorded now is kept ("unrecorded") and recorded later. What a
 * lost message left out comes when the store is looked through, each minute. */
#include "server/revocations.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/text.h"
#include "server/server.h"
#include "server/session_record.h"
#include "server/store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define COLLECTION "revocations"

struct revocations {
	struct server *server;
	pthread_mutex_t change; /* held over the store's change and ours, so that both have the same order */
	pthread_rwlock_t lock;
	json_t *all; /* by id */
};

static void name_it(const char *kind, const char *value, char out[REVOCATION_ID_TEXT])
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
	unsigned char hash[32];
	secret_sha256(value, strlen(value), hash);
	size_t n = (size_t)snprintf(out, REVOCATION_ID_TEXT, "%s-", kind);
	for (size_t i = 0; i < 26; i++) /* 130 bits */
		out[n++] = letters[hash[i] % 32];
	out[n] = '\0';
}

static int collect(void *arg, const char *key, json_t *doc, uint64_t version)
{
	(void)version;
	return json_object_set(arg, key, doc);
}

static int load_blocking(struct server *server, json_t **out_all, struct err *e)
{
	char cursor[TUNNEL_CURSOR_MAX] = "";
	json_t *all = json_object();
	int rc = 0;
	do
		rc = store_scan_blocking(server->store, COLLECTION, NULL, NULL, LIMIT_SCAN_PAGE, cursor, collect, all,
					 e);
	while (rc == 0 && *cursor);
	if (rc) {
		json_decref(all);
		return err_wrap(e, "revocations could not be read");
	}
	*out_all = all;
	return 0;
}

int revocations_open_blocking(struct server *server, struct revocations **out_revocations, struct err *e)
{
	json_t *all = NULL;
	int rc = load_blocking(server, &all, e);
	struct revocations *r = rc ? NULL : calloc(1, sizeof *r);
	if (!r) {
		json_decref(all);
		return rc ? rc : err_set(e, ERR_NOMEM, "out of memory");
	}
	r->server = server;
	r->all = all;
	pthread_mutex_init(&r->change, NULL);
	pthread_rwlock_init(&r->lock, NULL);
	*out_revocations = r;
	return 0;
}

void revocations_close(struct revocations **revocations)
{
	struct revocations *r = *revocations;
	if (!r)
		return;
	json_decref(r->all);
	pthread_rwlock_destroy(&r->lock);
	pthread_mutex_destroy(&r->change);
	free(r);
	*revocations = NULL;
}

static int store(struct revocations *r, const char *id, json_t *doc, struct err *e)
{
	json_object_del(doc, "unrecorded");
	int rc = store_put_blocking(r->server->store, COLLECTION, id, doc, TUNNEL_VERSION_ANY,
				    record_int(doc, "expires_ms"), NULL, NULL, e);
	if (rc)
		json_object_set_new(doc, "unrecorded", json_true());
	return rc;
}

/* With r->change held, so r->all stays. */
static void keep_unrecorded(struct revocations *r, json_t *all)
{
	const char *id;
	json_t *doc;
	struct err e;
	json_object_foreach(r->all, id, doc)
	{
		if (!json_object_get(doc, "unrecorded"))
			continue;
		json_t *copy = json_deep_copy(doc); /* others look at the old one meanwhile */
		if (store(r, id, copy, &e))
			log_error("revocation %s is in force and still not recorded: %s", id, e.text);
		json_object_set_new(all, id, copy);
	}
}

int revocations_reload_blocking(struct revocations *r, bool *out_changed, struct err *e)
{
	json_t *all = NULL, *old = NULL;
	pthread_mutex_lock(&r->change);
	int rc = load_blocking(r->server, &all, e);
	if (rc == 0) {
		keep_unrecorded(r, all);
		*out_changed = !json_equal(r->all, all);
		pthread_rwlock_wrlock(&r->lock);
		old = r->all;
		r->all = all;
		pthread_rwlock_unlock(&r->lock);
		json_decref(old);
	}
	pthread_mutex_unlock(&r->change);
	return rc;
}

static bool in_force(const json_t *doc)
{
	int64_t expires_ms = record_int(doc, "expires_ms");
	return doc && (!expires_ms || expires_ms > clock_wall_ms());
}

static int check(struct revocations *r, const char *kind, const char *value, struct err *e)
{
	char id[REVOCATION_ID_TEXT], at[CLOCK_TEXT_LEN];
	if (!value || !*value)
		return 0;
	name_it(kind, value, id);
	const json_t *doc = json_object_get(r->all, id);
	if (!in_force(doc))
		return 0;
	const char *reason = record_text(doc, "reason");
	return err_set(e, ERR_DENIED, "%s %.64s was revoked at %s%s%.80s", kind, value,
		       clock_text(record_int(doc, "at_ms"), at), *reason ? ": " : "", reason);
}

int revocations_check_anythread(struct revocations *r, const char *principal, const char *credential, struct err *e)
{
	pthread_rwlock_rdlock(&r->lock);
	int rc = check(r, "principal", principal, e);
	if (rc == 0)
		rc = check(r, "credential", credential, e);
	pthread_rwlock_unlock(&r->lock);
	return rc;
}

static json_t *view(const char *id, const json_t *doc)
{
	const char *kind = record_text(doc, "kind");
	json_t *out = json_pack("{s:s, s:s, s:s, s:o, s:s, s:s, s:o}", "id", id, "kind", kind, kind,
				record_text(doc, "value"), "at", record_time(record_int(doc, "at_ms")), "by",
				record_text(doc, "by"), "reason", record_text(doc, "reason"), "expires_at",
				record_time(record_int(doc, "expires_ms")));
	return out;
}

static void tell_others(struct revocations *r, const char *id)
{
	struct err e = { 0 };
	json_auto_t *message = json_pack("{s:s, s:s}", "node", r->server->node, "id", id);
	if (!message || store_publish_blocking(r->server->store, REVOCATIONS_CHANNEL, message, &e) != 0)
		log_error("revocation %s: telling the other nodes: %s", id, message ? e.text : "out of memory");
}

static void set(struct revocations *r, const char *id, json_t *doc)
{
	pthread_rwlock_wrlock(&r->lock);
	if (doc)
		json_object_set(r->all, id, doc);
	else
		json_object_del(r->all, id);
	pthread_rwlock_unlock(&r->lock);
}

/* One that is there is not shortened by another: who wants that lifts it. With r->change held. */
static int64_t later(const struct revocations *r, const char *id, int64_t expires_ms)
{
	const json_t *old = json_object_get(r->all, id);
	if (!in_force(old))
		return expires_ms;
	int64_t old_ms = record_int(old, "expires_ms");
	return !old_ms || !expires_ms ? 0 : old_ms > expires_ms ? old_ms : expires_ms;
}

static int put_locked(struct revocations *r, const char *id, const char *kind, const struct revocation *what,
		      json_t **out_doc, struct err *e)
{
	json_t *doc = json_pack("{s:s, s:s, s:I, s:s, s:s, s:I, s:b}", "kind", kind, "value",
				what->principal ? what->principal : what->credential, "at_ms",
				(json_int_t)clock_wall_ms(), "by", what->by, "reason", what->reason ? what->reason : "",
				"expires_ms", (json_int_t)later(r, id, what->expires_ms), "unrecorded", 1);
	json_t *recorded = doc ? json_deep_copy(doc) : NULL;
	if (!recorded) {
		json_decref(doc);
		return err_set(e, ERR_INVALID, "%s: not UTF-8", kind);
	}
	set(r, id, doc);
	json_decref(doc);
	int rc = store(r, id, recorded, e);
	if (rc == 0)
		set(r, id, recorded);
	*out_doc = recorded;
	return rc ? err_wrap(e, "in force on this node, and not recorded yet; trying again") : 0;
}

int revocations_put_blocking(struct revocations *r, const struct revocation *what, json_t **out, struct err *e)
{
	const char *kind = what->principal ? "principal" : "credential";
	char id[REVOCATION_ID_TEXT];
	json_auto_t *doc = NULL;
	name_it(kind, what->principal ? what->principal : what->credential, id);
	pthread_mutex_lock(&r->change);
	int rc = put_locked(r, id, kind, what, &doc, e);
	pthread_mutex_unlock(&r->change);
	if (rc)
		return rc;
	tell_others(r, id);
	*out = view(id, doc);
	return 0;
}

int revocations_del_blocking(struct revocations *r, const char *id, struct err *e)
{
	pthread_mutex_lock(&r->change);
	int rc = text_is_id(id) ? store_del_blocking(r->server->store, COLLECTION, id, TUNNEL_VERSION_ANY, e)
				: ERR_NOT_FOUND;
	if (rc == 0 || rc == ERR_NOT_FOUND)
		set(r, id, NULL);
	pthread_mutex_unlock(&r->change);
	if (rc == ERR_NOT_FOUND)
		return err_set(e, ERR_NOT_FOUND, "no revocation '%.64s'", text_is_id(id) ? id : "?");
	if (rc == 0)
		tell_others(r, id);
	return rc;
}

json_t *revocations_get(struct revocations *r, const char *id)
{
	pthread_rwlock_rdlock(&r->lock);
	const json_t *doc = json_object_get(r->all, id);
	json_t *out = in_force(doc) ? view(id, doc) : NULL;
	pthread_rwlock_unlock(&r->lock);
	return out;
}

json_t *revocations_list(struct revocations *r)
{
	json_t *list = json_array(), *doc;
	const char *id;
	pthread_rwlock_rdlock(&r->lock);
	json_object_foreach(r->all, id, doc)
	{
		if (in_force(doc))
			json_array_append_new(list, view(id, doc));
	}
	pthread_rwlock_unlock(&r->lock);
	return list;
}
