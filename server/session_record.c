/* A record changes by compare-and-set only: whoever wants to change one reads it, alters it and writes it back with the
 * version it read. So two workers, or two nodes, can never undo each other's change, and an end happens once. Ended
 * records stay for a while so that late callers learn how the session ended; then the store drops them. */
#include "server/session_record.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"
#include "server/audit.h"
#include "server/relay.h"
#include "server/server.h"
#include "server/store.h"

#include <stdlib.h>
#include <string.h>

#define CHANGE_TRIES 32
#define OLD_TOKENS 8u     /* hashes: of so many the record can say why they are refused */
#define OFFERED_TOKENS 4u /* hashes, beside the target's newest */

const char *record_text(const json_t *doc, const char *key)
{
	const char *text = json_string_value(json_object_get(doc, key));
	return text ? text : "";
}

int64_t record_int(const json_t *doc, const char *key)
{
	return json_integer_value(json_object_get(doc, key));
}

bool record_ended(const json_t *doc)
{
	return strcmp(record_text(doc, "state"), "ended") == 0;
}

unsigned record_end_code(const json_t *doc)
{
	unsigned code = (unsigned)record_int(json_object_get(doc, "end"), "code");
	return record_ended(doc) && code == 0 ? 4003 : code; /* 0 would let in */
}

const char *record_end_text(const json_t *doc)
{
	return record_text(json_object_get(doc, "end"), "text");
}

bool record_is_settled(const json_t *doc)
{
	return !json_is_true(json_object_get(doc, "unfinished")) || json_object_get(doc, "resume_owed");
}

int64_t record_generation(const json_t *doc)
{
	int64_t generation = record_int(doc, "generation");
	return generation ? generation : 1;
}

static bool has_token(const json_t *tokens, const char *hash)
{
	bool has = false;
	for (size_t i = 0; i < json_array_size(tokens); i++) {
		const char *one = json_string_value(json_array_get(tokens, i));
		has |= one && text_equal_secret(one, strlen(one), hash, strlen(hash));
	}
	return has;
}

bool record_had_token(const json_t *doc, const char *hash)
{
	return has_token(json_object_get(doc, "old_tokens"), hash);
}

bool record_is_target_token(const json_t *doc, const char *hash)
{
	const char *newest = record_text(doc, "target_token");
	return (*newest && text_equal_secret(newest, strlen(newest), hash, strlen(hash))) ||
	       has_token(json_object_get(doc, "offered_tokens"), hash);
}

/* Of the record's array of that name, made when there is none, the last ones stay. */
static void add_tokens(json_t *doc, const char *name, json_t *tokens, size_t most)
{
	json_t *all = json_object_get(doc, name);
	if (!json_is_array(all)) {
		all = json_array();
		json_object_set_new(doc, name, all);
	}
	json_array_extend(all, tokens);
	while (json_array_size(all) > most)
		json_array_remove(all, 0);
}

void record_offer_token(json_t *doc, const char *hash)
{
	json_auto_t *before = json_pack("[O]", json_object_get(doc, "target_token"));
	add_tokens(doc, "offered_tokens", before, OFFERED_TOKENS);
	json_object_set_new(doc, "target_token", json_string(hash));
}

void record_retire_tokens(json_t *doc)
{
	json_auto_t *now =
		json_pack("[O, O]", json_object_get(doc, "client_token"), json_object_get(doc, "target_token"));
	add_tokens(doc, "old_tokens", json_object_get(doc, "offered_tokens"), OLD_TOKENS);
	add_tokens(doc, "old_tokens", now, OLD_TOKENS);
	json_object_del(doc, "offered_tokens");
}

int record_client_pin(const char *client_key, char out[KEY_PIN_TEXT], struct err *e)
{
	EVP_PKEY *key = NULL;
	unsigned char pin[32];
	int rc = key_from_public_text(client_key, &key, e);
	if (rc == 0)
		rc = key_pin(key, pin, e);
	EVP_PKEY_free(key);
	if (rc)
		return err_set(e, ERR_INVALID, "body.client_key: not a P-256 public key in base64url DER");
	key_pin_text(pin, out);
	return 0;
}

void record_owe(struct server *server, json_t *doc)
{
	/* An older debt stands behind less. */
	if (!json_is_true(json_object_get(doc, "unfinished")))
		json_object_set_new(doc, "owed_seq", json_integer((json_int_t)audit_seq_anythread(server->audit)));
	json_object_set_new(doc, "unfinished", json_true());
}

bool record_is_of(const json_t *doc, const struct identity *id)
{
	return strcmp(id->subject, record_text(doc, "principal")) == 0 &&
	       strcmp(id->provider, record_text(doc, "provider")) == 0;
}

bool record_is_bound(const json_t *doc)
{
	return json_is_true(json_object_get(doc, "bound"));
}

int64_t record_end_under(const json_t *doc, const struct identity *id)
{
	int64_t limit_ms = record_int(doc, "limit_ms");
	bool sooner = record_is_bound(doc) && id->expires_ms && id->expires_ms < limit_ms;
	if (!limit_ms) /* of a server that knew no such limit */
		return record_int(doc, "expires_ms");
	return sooner ? id->expires_ms : limit_ms;
}

void record_take_identity(json_t *doc, const struct identity *id)
{
	json_t *grant = json_deep_copy(json_object_get(doc, "grant"));
	json_object_set_new(doc, "expires_ms", json_integer(record_end_under(doc, id)));
	json_object_set_new(doc, "credential", json_string(id->credential));
	json_object_set(doc, "groups", id->groups);
	json_object_set(doc, "claims", id->claims);
	json_object_set_new(doc, "identity_expires_ms", json_integer(id->expires_ms));
	if (grant) {
		record_date_grant(doc, grant);
		json_object_set_new(doc, "grant", grant);
	}
}

void record_date_grant(const json_t *doc, json_t *grant)
{
	json_object_set_new(grant, "expires_at_ms", json_integer(record_int(doc, "expires_ms")));
	if (record_by_identity(doc))
		json_object_set_new(grant, "bound", json_true());
	else
		json_object_del(grant, "bound");
}

bool record_by_identity(const json_t *doc)
{
	return record_is_bound(doc) && record_int(doc, "expires_ms") < record_int(doc, "limit_ms");
}

const char *record_expiry_text(bool by_identity)
{
	return by_identity ? "the credential that the session is bound to expired and was not renewed"
			   : "the session reached its maximum duration";
}

int record_get_blocking(struct server *server, const char *id, json_t **out_doc, uint64_t *out_version, struct err *e)
{
	if (!text_is_id(id))
		return err_set(e, ERR_NOT_FOUND, "no session '%.64s'", id);
	int rc = store_get_blocking(server->store, SESSION_COLLECTION, id, out_doc, out_version, e);
	if (rc == ERR_NOT_FOUND)
		return err_set(e, rc, "no session '%s'", id);
	return rc;
}

int record_put_blocking(struct server *server, const json_t *doc, uint64_t expect, uint64_t *out_version, struct err *e)
{
	struct tunnel_index indexes[7];
	size_t n = 0;
	indexes[n++] = (struct tunnel_index){ "state", record_text(doc, "state") };
	indexes[n++] = (struct tunnel_index){ "principal", record_text(doc, "principal") };
	indexes[n++] = (struct tunnel_index){ "target", record_text(doc, "target") };
	if (!record_ended(doc) && *record_text(doc, "node"))
		indexes[n++] = (struct tunnel_index){ "node", record_text(doc, "node") };
	if (*record_text(doc, "idem"))
		indexes[n++] = (struct tunnel_index){ "idem", record_text(doc, "idem") };
	if (json_is_true(json_object_get(doc, "unfinished")))
		indexes[n++] = (struct tunnel_index){ "unfinished", "yes" };
	indexes[n] = (struct tunnel_index){ NULL, NULL };
	int64_t expires_ms = record_ended(doc) && !json_is_true(json_object_get(doc, "unfinished"))
				     ? record_int(doc, "ended_ms") + LIMIT_SESSION_KEEP_MS
				     : 0;
	return store_put_blocking(server->store, SESSION_COLLECTION, record_text(doc, "id"), doc, expect, expires_ms,
				  indexes, out_version, e);
}

int record_change_blocking(struct server *server, const char *id, record_change_fn *change, void *arg, json_t **out_doc,
			   struct err *e)
{
	for (int i = 0; i < CHANGE_TRIES; i++) {
		json_auto_t *doc = NULL;
		uint64_t version = 0;
		int rc = record_get_blocking(server, id, &doc, &version, e);
		if (rc)
			return rc;
		rc = change(arg, doc, e);
		if (rc < 0)
			return rc;
		if (rc == 0)
			rc = record_put_blocking(server, doc, version, NULL, e);
		else
			rc = 0;
		if (rc == ERR_CONFLICT)
			continue;
		if (rc == 0 && out_doc)
			*out_doc = json_incref(doc);
		return rc;
	}
	return err_set(e, ERR_UNAVAILABLE, "session %s: its record changed %d times under this request", id,
		       CHANGE_TRIES);
}

void record_hash_token(const char *token, char out[SESSION_TOKEN_HASH])
{
	unsigned char hash[32];
	secret_sha256(token, strlen(token), hash);
	text_b64url(hash, sizeof hash, out, SESSION_TOKEN_HASH);
}

static int copy_text(char *out, size_t size, const char *text)
{
	size_t len = strlen(text);
	if (len >= size)
		return -1;
	memcpy(out, text, len + 1);
	return 0;
}

static int copy_json(char *out, size_t size, const json_t *json)
{
	char *text = json_text(json);
	int rc = text ? copy_text(out, size, text) : -1;
	free(text);
	return rc;
}

int record_identity(const json_t *doc, struct identity *out, struct err *e)
{
	struct identity id = { .expires_ms = record_int(doc, "identity_expires_ms") };
	json_t *groups = json_object_get(doc, "groups"), *claims = json_object_get(doc, "claims");
	if (!json_is_array(groups) || !json_is_object(claims))
		return err_set(e, ERR_INTERNAL, "session %s: its record lacks groups or claims",
			       record_text(doc, "id"));
	id.raw.size = sizeof id.raw;
	id.raw.expires_ms = id.expires_ms;
	if (copy_text(id.subject, sizeof id.subject, record_text(doc, "principal")) ||
	    copy_text(id.credential, sizeof id.credential, record_text(doc, "credential")) ||
	    copy_text(id.provider, sizeof id.provider, record_text(doc, "provider")) ||
	    copy_text(id.raw.subject, sizeof id.raw.subject, id.subject) ||
	    copy_text(id.raw.credential, sizeof id.raw.credential, id.credential) ||
	    copy_json(id.raw.groups, sizeof id.raw.groups, groups) ||
	    copy_json(id.raw.claims, sizeof id.raw.claims, claims))
		return err_set(e, ERR_INTERNAL, "session %s: the identity in its record is too long",
			       record_text(doc, "id"));
	id.groups = json_incref(groups);
	id.claims = json_incref(claims);
	*out = id;
	return 0;
}

json_t *record_time(int64_t wall_ms)
{
	char text[CLOCK_TEXT_LEN];
	return wall_ms ? json_string(clock_text(wall_ms, text)) : json_null();
}

json_t *record_end_view(const json_t *doc)
{
	if (!record_ended(doc))
		return json_null();
	return json_pack("{s:i, s:s}", "code", (int)record_end_code(doc), "text", record_end_text(doc));
}

static json_t *text_or_null(const json_t *doc, const char *key)
{
	const char *text = record_text(doc, key);
	return *text ? json_string(text) : json_null();
}

json_t *record_view(struct server *server, const json_t *doc)
{
	json_t *allow = json_object_get(doc, "allow");
	json_t *view = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "id",
				 record_text(doc, "id"), "node", record_text(doc, "node"), "target",
				 record_text(doc, "target"), "kind", record_text(doc, "kind"), "state",
				 record_text(doc, "state"), "principal", record_text(doc, "principal"), "credential",
				 record_text(doc, "credential"), "login", text_or_null(doc, "login"), "allow",
				 allow ? json_incref(allow) : json_array(), "reason", text_or_null(doc, "reason"),
				 "created_at", record_time(record_int(doc, "created_ms")), "expires_at",
				 record_time(record_int(doc, "expires_ms")), "identity_expires_at",
				 record_time(record_is_bound(doc) ? record_int(doc, "identity_expires_ms") : 0),
				 "ended_at", record_time(record_int(doc, "ended_ms")), "end", record_end_view(doc));
	bool here = strcmp(record_text(doc, "node"), server->node) == 0; /* else that node alone knows */
	if (view && here && strcmp(record_text(doc, "state"), "active") == 0) {
		struct relay_info info = { 0 };
		relay_info_anythread(server->relay, record_text(doc, "id"), &info);
		json_object_set_new(view, "attached",
				    json_pack("{s:b, s:b}", "client", info.client, "target", info.target));
		json_object_set_new(
			view, "bytes",
			json_pack("{s:I, s:I}", "up", (json_int_t)info.bytes_up, "down", (json_int_t)info.bytes_down));
	}
	return view;
}
