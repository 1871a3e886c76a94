/* A revocation's id is made from what it revokes, so there is one of each, and whoever looks needs no search. One is in
 * force here before it is in the store: what is not recorded is marked ("unrecorded"), and what could not be is
 * recorded later. In the store it meets what other nodes have made of the same one: the longer time stands. What a lost
 * message left out comes when the store is looked through, each minute.
 *
 * The store may take one and not say so. Then another node may lift what this one still wants to record: so one that is
 * lifted leaves behind, for a while, that it was, and this very one is not recorded again. */
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
#define TRIES 8
#define LIFTED_KEEP_MS (24 * 3600 * 1000LL) /* a node may be stopped, or without the store, for so long */

struct revocations {
	struct server *server;
	pthread_mutex_t change; /* held over the store's change and ours, so that both have the same order */
	pthread_rwlock_t lock;
	json_t *all; /* by id; documents in it are never changed, but replaced */
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

static bool is_lifted(const json_t *doc)
{
	return json_is_true(json_object_get(doc, "lifted"));
}

static int collect(void *arg, const char *key, json_t *doc, uint64_t version)
{
	(void)version;
	return is_lifted(doc) ? 0 : json_object_set(arg, key, doc);
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

static bool in_force(const json_t *doc)
{
	int64_t expires_ms = record_int(doc, "expires_ms");
	return doc && (!expires_ms || expires_ms > clock_wall_ms());
}

static bool is_unrecorded(const json_t *doc)
{
	return json_is_true(json_object_get(doc, "unrecorded"));
}

/* The younger one of two with the longer time: one that is there is not shortened by another. Who wants that lifts it.
 * other may be NULL. New reference; NULL: out of memory. */
static json_t *merge(const json_t *one, const json_t *other)
{
	bool both = in_force(other);
	const json_t *younger = both && record_int(other, "at_ms") > record_int(one, "at_ms") ? other : one;
	int64_t one_ms = record_int(one, "expires_ms"), other_ms = record_int(other, "expires_ms");
	int64_t longer_ms = !one_ms || (both && !other_ms) ? 0 : both && other_ms > one_ms ? other_ms : one_ms;
	json_t *merged = json_deep_copy(younger);
	if (merged)
		json_object_set_new(merged, "expires_ms", json_integer(longer_ms));
	return merged;
}

/* ---- memory ---- */

/* New reference; NULL: there is none. */
static json_t *look_up(struct revocations *r, const char *id)
{
	pthread_rwlock_rdlock(&r->lock);
	json_t *doc = json_incref(json_object_get(r->all, id));
	pthread_rwlock_unlock(&r->lock);
	return doc;
}

/* Puts doc (NULL: nothing) in the place of what was seen there, unless that is another one by now. */
static void replace(struct revocations *r, const char *id, const json_t *seen, json_t *doc)
{
	pthread_rwlock_wrlock(&r->lock);
	if (json_object_get(r->all, id) == seen && doc)
		json_object_set(r->all, id, doc);
	else if (json_object_get(r->all, id) == seen)
		json_object_del(r->all, id);
	pthread_rwlock_unlock(&r->lock);
}

/* Ours that the store does not have yet are put over those that it has. With r->lock held. */
static void keep_unrecorded(struct revocations *r, json_t *all)
{
	const char *id;
	json_t *doc;
	json_object_foreach(r->all, id, doc)
	{
		json_t *kept = is_unrecorded(doc) ? merge(doc, json_object_get(all, id)) : NULL;
		if (!kept)
			continue;
		json_object_set_new(kept, "unrecorded", json_true());
		json_object_set_new(all, id, kept);
	}
}

/* all: as the store has them; stolen. True: something has changed. */
static bool replace_all(struct revocations *r, json_t *all)
{
	pthread_rwlock_wrlock(&r->lock);
	keep_unrecorded(r, all);
	json_t *old = r->all;
	bool changed = !json_equal(old, all);
	r->all = all;
	pthread_rwlock_unlock(&r->lock);
	json_decref(old);
	return changed;
}

/* ---- the store ---- */

/* Made by the same call: whoever makes one has its own time, or is another. */
static bool is_same(const json_t *a, const json_t *b)
{
	return record_int(a, "at_ms") == record_int(b, "at_ms") &&
	       strcmp(record_text(a, "by"), record_text(b, "by")) == 0;
}

static int put_merged(struct revocations *r, const char *id, const json_t *doc, json_t **out_doc, struct err *e)
{
	json_auto_t *stored = NULL;
	uint64_t version = TUNNEL_VERSION_NONE;
	int rc = store_get_blocking(r->server->store, COLLECTION, id, &stored, &version, e);
	if (rc && rc != ERR_NOT_FOUND)
		return rc;
	if (is_lifted(stored) && is_same(stored, doc))
		return err_set(e, ERR_NOT_FOUND, "revocation '%.64s' was lifted meanwhile", id);
	json_auto_t *merged = merge(doc, stored);
	if (!merged)
		return err_set(e, ERR_NOMEM, "out of memory");
	json_object_del(merged, "unrecorded");
	rc = store_put_blocking(r->server->store, COLLECTION, id, merged, version, record_int(merged, "expires_ms"),
				NULL, NULL, e);
	if (rc == 0)
		*out_doc = json_incref(merged);
	return rc;
}

/* For those who have not recorded it yet. Readers that do not know the mark see one whose time is over. */
static int put_lifted(struct revocations *r, const char *id, struct err *e)
{
	json_auto_t *doc = NULL;
	uint64_t version = 0;
	int rc = store_get_blocking(r->server->store, COLLECTION, id, &doc, &version, e);
	if (rc == 0 && is_lifted(doc))
		return err_set(e, ERR_NOT_FOUND, "revocation '%.64s' was lifted before", id);
	if (rc)
		return rc;
	if (json_object_set_new(doc, "lifted", json_true()) || json_object_set_new(doc, "expires_ms", json_integer(1)))
		return err_set(e, ERR_NOMEM, "out of memory");
	return store_put_blocking(r->server->store, COLLECTION, id, doc, version, clock_wall_ms() + LIFTED_KEEP_MS,
				  NULL, NULL, e);
}

/* With r->change held. Again while another node was quicker. */
static int lift(struct revocations *r, const char *id, struct err *e)
{
	int rc = ERR_CONFLICT;
	for (int i = 0; i < TRIES && rc == ERR_CONFLICT; i++)
		rc = put_lifted(r, id, e);
	return rc == ERR_CONFLICT ? err_set(e, ERR_UNAVAILABLE, "others change it at this moment") : rc;
}

/* With r->change held. Again while another node was quicker. ERR_NOT_FOUND: another node has lifted it. */
static int store(struct revocations *r, const char *id, const json_t *doc, json_t **out_doc, struct err *e)
{
	int rc = ERR_CONFLICT;
	for (int i = 0; i < TRIES && rc == ERR_CONFLICT; i++)
		rc = put_merged(r, id, doc, out_doc, e);
	return rc == ERR_CONFLICT ? err_set(e, ERR_UNAVAILABLE, "others change it at this moment") : rc;
}

/* With r->change held. A store that does not take one is not asked to take the others. */
static void record_owed(struct revocations *r, json_t *all)
{
	const char *id;
	json_t *doc;
	struct err e;
	int rc = 0;
	pthread_rwlock_rdlock(&r->lock);
	json_auto_t *ours = json_copy(r->all);
	pthread_rwlock_unlock(&r->lock);
	json_object_foreach(ours, id, doc)
	{
		json_auto_t *recorded = NULL;
		if (rc || !is_unrecorded(doc))
			continue;
		rc = store(r, id, doc, &recorded, &e);
		if (rc == ERR_NOT_FOUND) {
			replace(r, id, doc, NULL);
			rc = 0;
			continue;
		}
		if (rc) {
			log_error("revocation %s is in force and still not recorded: %s", id, e.text);
			continue;
		}
		json_object_set(all, id, recorded);
		replace(r, id, doc, recorded);
	}
}

int revocations_reload_blocking(struct revocations *r, bool *out_changed, struct err *e)
{
	json_t *all = NULL;
	pthread_mutex_lock(&r->change);
	int rc = load_blocking(r->server, &all, e);
	if (rc == 0) {
		record_owed(r, all);
		*out_changed = replace_all(r, all);
	}
	pthread_mutex_unlock(&r->change);
	return rc;
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

static json_t *document(const char *kind, const struct revocation *what)
{
	return json_pack("{s:s, s:s, s:I, s:s, s:s, s:I, s:b}", "kind", kind, "value",
			 what->principal ? what->principal : what->credential, "at_ms", (json_int_t)clock_wall_ms(),
			 "by", what->by, "reason", what->reason ? what->reason : "", "expires_ms",
			 (json_int_t)what->expires_ms, "unrecorded", 1);
}

int revocations_enforce_anythread(struct revocations *r, const struct revocation *what, char id[REVOCATION_ID_TEXT],
				  struct err *e)
{
	const char *kind = what->principal ? "principal" : "credential";
	json_auto_t *asked = document(kind, what);
	if (!asked)
		return err_set(e, ERR_INVALID, "%s: not UTF-8", kind);
	name_it(kind, what->principal ? what->principal : what->credential, id);
	pthread_rwlock_wrlock(&r->lock);
	json_t *doc = merge(asked, json_object_get(r->all, id));
	int rc = doc ? json_object_set_new(doc, "unrecorded", json_true()) : -1;
	rc = rc ? rc : json_object_set(r->all, id, doc);
	pthread_rwlock_unlock(&r->lock);
	json_decref(doc);
	return rc ? err_set(e, ERR_NOMEM, "out of memory") : 0;
}

static int record_locked(struct revocations *r, const char *id, json_t **out_doc, struct err *e)
{
	json_auto_t *doc = look_up(r, id);
	if (!doc)
		return err_set(e, ERR_NOT_FOUND, "revocation '%.64s' was lifted at this moment", id);
	if (!is_unrecorded(doc)) { /* with the others that were owed */
		*out_doc = json_incref(doc);
		return 0;
	}
	int rc = store(r, id, doc, out_doc, e);
	if (rc && rc != ERR_NOT_FOUND)
		return err_wrap(e, "in force on this node, and not recorded yet; trying again");
	replace(r, id, doc, rc ? NULL : *out_doc);
	return rc;
}

int revocations_record_blocking(struct revocations *r, const char *id, json_t **out, struct err *e)
{
	json_auto_t *doc = NULL;
	pthread_mutex_lock(&r->change);
	int rc = record_locked(r, id, &doc, e);
	pthread_mutex_unlock(&r->change);
	if (rc)
		return rc;
	tell_others(r, id);
	*out = view(id, doc);
	return 0;
}

static int del_locked(struct revocations *r, const char *id, struct err *e)
{
	json_auto_t *doc = look_up(r, id);
	int rc = lift(r, id, e);
	if (rc && rc != ERR_NOT_FOUND)
		return rc;
	replace(r, id, doc, NULL);
	return in_force(doc) ? 0 : rc;
}

int revocations_del_blocking(struct revocations *r, const char *id, struct err *e)
{
	pthread_mutex_lock(&r->change);
	int rc = text_is_id(id) ? del_locked(r, id, e) : ERR_NOT_FOUND;
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
