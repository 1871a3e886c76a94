/* A target exists from its enrolment on: a one-time token, made by somebody whom policy lets, is exchanged for the
 * agent's two public keys. Only the token's hash is stored, and taking the token up is a compare-and-set, so of two
 * that try the same token one succeeds. An agent that did not get its answer asks again with the same keys. New keys or
 * tags mean another machine: sessions of the old one end. */
#include "server/targets.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/text.h"
#include "ident/key.h"
#include "server/audit.h"
#include "server/control.h"
#include "server/revocations.h"
#include "server/server.h"
#include "server/session_home.h"
#include "server/session_record.h"
#include "server/sessions.h"
#include "server/store.h"
#include "server/target_key.h"

#include <stdlib.h>
#include <string.h>

#define TRIES 32
#define ENROLLMENT_KEEP_MS (3600 * 1000LL) /* after its time; much longer than a request takes */
#define NO_TOKEN "the enrolment token is unknown, was used, or has expired"

bool targets_is_leaving(const json_t *doc)
{
	return json_is_true(json_object_get(doc, "deregistering"));
}

int targets_read_blocking(struct server *server, const char *id, json_t **out_doc, struct err *e)
{
	if (!text_is_id(id))
		return err_set(e, ERR_NOT_FOUND, "no target '%.64s'", id);
	int rc = store_get_blocking(server->store, "targets", id, out_doc, NULL, e);
	return rc == ERR_NOT_FOUND ? err_set(e, rc, "no target '%s'", id) : rc;
}

int targets_get_blocking(struct server *server, const char *id, json_t **out_doc, struct err *e)
{
	json_auto_t *doc = NULL;
	int rc = targets_read_blocking(server, id, &doc, e);
	if (rc == 0 && targets_is_leaving(doc))
		return err_set(e, ERR_NOT_FOUND, "no target '%s': it is being deregistered", id);
	if (rc == 0)
		*out_doc = json_incref(doc);
	return rc;
}

int targets_check_version(const char *version, struct err *e)
{
	for (const char *c = version; *c; c++)
		if (*c <= ' ' || *c >= 0x7f)
			return err_set(e, ERR_INVALID, "version: expected visible ASCII");
	return 0;
}

/* ---- enrolment ---- */

static int check_tags(const json_t *tags, struct err *e)
{
	const char *key;
	json_t *value;
	if (json_object_size(tags) > LIMIT_TAGS)
		return err_set(e, ERR_INVALID, "tags: %zu; allowed: at most %u", json_object_size(tags), LIMIT_TAGS);
	json_object_foreach((json_t *)(uintptr_t)tags, key, value)
	{
		const char *text = json_string_value(value);
		if (!text_is_id(key))
			return err_set(e, ERR_INVALID,
				       "tags.%.64s: a key is letters, digits, '.', '_', '-', at most %u", key,
				       LIMIT_ID);
		if (!text || strlen(text) > LIMIT_TAG_TEXT)
			return err_set(e, ERR_INVALID, "tags.%s: expected string of at most %u bytes", key,
				       LIMIT_TAG_TEXT);
	}
	return 0;
}

static void token_key(const char *token, char out[65])
{
	unsigned char hash[32];
	secret_sha256(token, strlen(token), hash);
	text_hex(hash, sizeof hash, out);
}

/* Its index is for when the target is deregistered. It stays longer than it is good for: an enrolment that takes it in
 * its last moment must not find it missing, which means that the target was deregistered meanwhile. */
static int put_enrollment(struct server *server, const char *key, const json_t *doc, uint64_t expect, struct err *e)
{
	const struct tunnel_index indexes[] = { { "target", record_text(doc, "target") }, { NULL, NULL } };
	return store_put_blocking(server->store, "enrollments", key, doc, expect,
				  record_int(doc, "expires_ms") + ENROLLMENT_KEEP_MS, indexes, NULL, e);
}

int targets_enrollment_blocking(struct server *server, const struct enrollment_ask *ask, char out_token[64],
				int64_t *out_expires_ms, struct err *e)
{
	char token[SECRET_TOKEN_TEXT], key[65];
	if (!text_is_id(ask->id))
		return err_set(e, ERR_INVALID,
			       "target: '%.64s' is not a target id; allowed: letters, digits, '.', '_', "
			       "'-'",
			       ask->id);
	int rc = check_tags(ask->tags, e);
	if (rc)
		return rc;
	int64_t expires_ms = clock_wall_ms() + ask->lifetime_ms;
	secret_token(token);
	token_key(token, key);
	json_auto_t *doc = json_pack("{s:s, s:O, s:O*, s:s, s:I}", "target", ask->id, "tags", ask->tags, "replaces",
				     ask->replaces, "by", ask->by, "expires_ms", (json_int_t)expires_ms);
	json_object_set_new(doc, "credential", json_string(ask->credential));
	rc = put_enrollment(server, key, doc, TUNNEL_VERSION_NONE, e);
	if (rc == 0)
		rc = audit_append_blocking(server->audit, "target.enrollment",
					   json_pack("{s:s, s:O, s:s, s:o}", "target", ask->id, "tags", ask->tags,
						     "principal", ask->by, "expires_at", record_time(expires_ms)),
					   e);
	if (rc == 0) {
		snprintf(out_token, 64, "%s", token);
		*out_expires_ms = expires_ms;
	}
	secret_wipe(token, sizeof token);
	return rc;
}

/* Checks it and uses it up for these keys. *out_again: it was used for them before. */
static int take_token(struct server *server, const char *token, json_t *keys, json_t **out_doc, bool *out_again,
		      struct err *e)
{
	char key[65];
	uint64_t version = 0;
	json_auto_t *doc = NULL;
	token_key(token, key);
	int rc = store_get_blocking(server->store, "enrollments", key, &doc, &version, e);
	if (rc == 0 && record_int(doc, "expires_ms") <= clock_wall_ms())
		rc = ERR_NOT_FOUND;
	if (rc == 0 &&
	    revocations_check_anythread(server->revocations, record_text(doc, "by"), record_text(doc, "credential"), e))
		return ERR_DENIED;
	const json_t *used_for = json_object_get(doc, "used_for");
	if (rc == 0 && !used_for) {
		rc = json_object_set(doc, "used_for", keys) == 0 ? put_enrollment(server, key, doc, version, e)
								 : err_set(e, ERR_NOMEM, "out of memory");
	} else if (rc == 0 && !json_equal(used_for, keys)) {
		rc = ERR_NOT_FOUND;
	}
	if (rc == ERR_NOT_FOUND || rc == ERR_CONFLICT)
		return err_set(e, ERR_DENIED, NO_TOKEN);
	if (rc == 0) {
		*out_again = used_for != NULL;
		*out_doc = json_incref(doc);
	}
	return rc;
}

static int check_key(const char *what, const char *text, struct err *e)
{
	EVP_PKEY *key = NULL;
	int rc = key_from_public_text(text, &key, e);
	EVP_PKEY_free(key);
	return rc ? err_set(e, ERR_INVALID, "%s: not a P-256 public key in base64url DER", what) : 0;
}

static bool same_machine(const json_t *a, const json_t *b)
{
	static const char *const keys[] = { "identity_key", "link_key", "tags" };
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		if (!json_equal(json_object_get(a, keys[i]), json_object_get(b, keys[i])))
			return false;
	return true;
}

/* Nothing is done again: a used token brings back nobody who was replaced or deregistered since. */
static int find_enrolled(struct server *server, const json_t *enrollment, json_t *keys, json_t **out_doc, struct err *e)
{
	json_auto_t *asked = json_pack("{s:O}", "tags", json_object_get(enrollment, "tags"));
	json_auto_t *doc = NULL;
	int rc = store_get_blocking(server->store, "targets", record_text(enrollment, "target"), &doc, NULL, e);
	json_object_update(asked, keys);
	if (rc == ERR_NOT_FOUND || (rc == 0 && (targets_is_leaving(doc) || !same_machine(asked, doc))))
		return err_set(e, ERR_DENIED, NO_TOKEN);
	if (rc == 0)
		*out_doc = json_incref(doc);
	return rc;
}

/* The report numbers of the agent that was there before mean nothing to the new one. */
static void forget_reports(struct server *server, const char *id)
{
	struct err e;
	int rc = store_del_blocking(server->store, "reports", id, TUNNEL_VERSION_ANY, &e);
	if (rc && rc != ERR_NOT_FOUND)
		log_with(LOG_LEVEL_ERROR, FIELDS({ "target", id }, { "error", e.text }),
			 "the report numbers of a replaced agent stay");
}

/* Policy was asked about the target as it will be and, if one was there, about that one. It sees a target's id and
 * tags, so any target with those tags may be replaced; what the record changes by at each connect does not matter. */
static bool may_replace(const json_t *enrollment, const json_t *old)
{
	const json_t *tags = json_object_get(old, "tags");
	return json_equal(tags, json_object_get(enrollment, "tags")) ||
	       json_equal(tags, json_object_get(enrollment, "replaces"));
}

static int audit_enrolled(struct server *server, const json_t *enrollment, const json_t *doc, bool replaced,
			  struct err *e)
{
	return audit_append_blocking(server->audit, "target.enrolled",
				     json_pack("{s:s, s:s, s:b, s:O}", "target", record_text(doc, "id"), "by",
					       record_text(enrollment, "by"), "replaced", replaced, "tags",
					       json_object_get(doc, "tags")),
				     e);
}

/* *out_old: the very document that doc took the place of, so that of two enrolments at once the later one knows whom
 * to cut off; NULL: none. Also when the store did not say whether it did. */
static int replace(struct server *server, const json_t *enrollment, const json_t *doc, json_t **out_old, struct err *e)
{
	const char *id = record_text(doc, "id");
	bool told = false;
	for (int i = 0; i < TRIES; i++) {
		json_auto_t *old = NULL;
		uint64_t at = TUNNEL_VERSION_NONE;
		int rc = store_get_blocking(server->store, "targets", id, &old, &at, e);
		if (rc && rc != ERR_NOT_FOUND)
			return rc;
		if (old && targets_is_leaving(old))
			return err_set(e, ERR_CONFLICT,
				       "target %s is being deregistered: deregister it again, until that succeeds", id);
		if (old && !may_replace(enrollment, old))
			return err_set(e, ERR_CONFLICT,
				       "target %s was enrolled with other tags after this token was made", id);
		if (!told && (rc = audit_enrolled(server, enrollment, doc, old != NULL, e)) != 0)
			return rc;
		told = true;
		if (old)
			forget_reports(server, id);
		rc = store_put_blocking(server->store, "targets", id, doc, at, 0, NULL, NULL, e);
		if (rc == ERR_CONFLICT)
			continue;
		*out_old = json_incref(old);
		return rc;
	}
	return err_set(e, ERR_UNAVAILABLE, "target %s: its record changed %d times under this request", id, TRIES);
}

/* A deregistration takes the tokens away, then the target. One that came between the token and what it was used for did
 * not see the target that is to go. */
static int check_not_deregistered(struct server *server, const char *token, const json_t *enrolled, struct err *e)
{
	char key[65];
	const char *id = record_text(enrolled, "id");
	json_auto_t *doc = NULL;
	json_auto_t *now = NULL;
	struct err why;
	token_key(token, key);
	int rc = store_get_blocking(server->store, "enrollments", key, &doc, NULL, e);
	if (rc != ERR_NOT_FOUND)
		return rc;
	rc = store_get_blocking(server->store, "targets", id, &now, NULL, &why);
	if (rc == 0 && same_machine(now, enrolled)) { /* else it is gone, or somebody else's by now */
		rc = audit_append_blocking(server->audit, "target.deleted",
					   json_pack("{s:s, s:s, s:s}", "target", id, "by", "server", "reason",
						     "it was deregistered while it was enrolled"),
					   &why);
		if (rc == 0)
			rc = targets_delete_blocking(server, id, &why);
	}
	if (rc && rc != ERR_NOT_FOUND)
		log_with(LOG_LEVEL_ERROR, FIELDS({ "target", id }, { "error", why.text }),
			 "a target that was deregistered while it was enrolled may still be there");
	return err_set(e, ERR_DENIED, NO_TOKEN);
}

int targets_enroll_blocking(struct server *server, const char *token, const char *identity_key, const char *link_key,
			    const char *version, json_t **out_doc, struct err *e)
{
	json_auto_t *keys = json_pack("{s:s, s:s}", "identity_key", identity_key, "link_key", link_key);
	json_auto_t *enrollment = NULL;
	json_auto_t *old = NULL;
	bool again = false;
	int rc = check_key("identity_key", identity_key, e);
	if (rc == 0)
		rc = check_key("link_key", link_key, e);
	if (rc == 0)
		rc = targets_check_version(version, e);
	if (rc == 0)
		rc = take_token(server, token, keys, &enrollment, &again, e);
	if (rc)
		return rc;
	if (again)
		return find_enrolled(server, enrollment, keys, out_doc, e);
	const char *id = record_text(enrollment, "target");
	json_auto_t *doc = json_pack("{s:s, s:O, s:s, s:s, s:[], s:s, s:i, s:i, s:s, s:I}", "id", id, "tags",
				     json_object_get(enrollment, "tags"), "identity_key", identity_key, "link_key",
				     link_key, "ssh_host_keys", "version", version, "connected_since", 0, "last_seen",
				     0, "node", server->node, "enrolled_at", (json_int_t)clock_wall_ms());
	rc = replace(server, enrollment, doc, &old, e);
	if (rc == 0)
		rc = check_not_deregistered(server, token, doc, e);
	if (old && !same_machine(old, doc)) {
		struct err why;
		control_disconnect_blocking(server, id, 4403, "the target was enrolled again");
		control_tell_target_changed_blocking(server, id);
		if (sessions_end_target_blocking(server, id, 4011, "the target was enrolled again", "server", &why))
			log_with(LOG_LEVEL_ERROR, FIELDS({ "target", id }, { "error", why.text }),
				 "not all sessions of the replaced agent could be ended");
	}
	if (rc)
		return err_wrap(e, "the token is used up, ask for a new one");
	*out_doc = json_incref(doc);
	return 0;
}

/* ---- registry ---- */

static int collect_key(void *arg, const char *key, json_t *doc, uint64_t version)
{
	(void)doc, (void)version;
	return json_array_append_new(arg, json_string(key));
}

/* Used or not: none of them enrols anybody from here on. */
static int forget_tokens(struct server *server, const char *id, struct err *e)
{
	char cursor[TUNNEL_CURSOR_MAX] = "";
	json_auto_t *keys = json_array();
	int rc = 0;
	do
		rc = store_scan_blocking(server->store, "enrollments", "target", id, LIMIT_SCAN_PAGE, cursor,
					 collect_key, keys, e);
	while (rc == 0 && *cursor);
	for (size_t i = 0; rc == 0 && i < json_array_size(keys); i++) {
		rc = store_del_blocking(server->store, "enrollments", json_string_value(json_array_get(keys, i)),
					TUNNEL_VERSION_ANY, e);
		rc = rc == ERR_NOT_FOUND ? 0 : rc;
	}
	return rc;
}

/* From here on nobody is enrolled, connected or offered a session there. */
static int mark_leaving(struct server *server, const char *id, struct err *e)
{
	for (int i = 0; i < TRIES; i++) {
		json_auto_t *doc = NULL;
		uint64_t at = 0;
		int rc = store_get_blocking(server->store, "targets", id, &doc, &at, e);
		if (rc || targets_is_leaving(doc))
			return rc == ERR_NOT_FOUND ? err_set(e, rc, "no target '%s'", id) : rc;
		json_object_set_new(doc, "deregistering", json_true());
		rc = store_put_blocking(server->store, "targets", id, doc, at, 0, NULL, NULL, e);
		if (rc != ERR_CONFLICT)
			return rc;
	}
	return err_set(e, ERR_UNAVAILABLE, "target %s: its record changed %d times under this request", id, TRIES);
}

/* Not one that was enrolled since another call deleted the one that was marked. */
static int delete_leaving(struct server *server, const char *id, struct err *e)
{
	for (int i = 0; i < TRIES; i++) {
		json_auto_t *doc = NULL;
		uint64_t at = 0;
		int rc = store_get_blocking(server->store, "targets", id, &doc, &at, e);
		if (rc == 0 && !targets_is_leaving(doc))
			return 0;
		if (rc == 0)
			rc = store_del_blocking(server->store, "targets", id, at, e);
		if (rc != ERR_CONFLICT)
			return rc == ERR_NOT_FOUND ? 0 : rc;
	}
	return err_set(e, ERR_UNAVAILABLE, "target %s: its record changed %d times under this request", id, TRIES);
}

/* The target goes last, so that whatever fails can be asked for again. Tokens go before it: an enrolment that has taken
 * one by then has written its target as well, which is marked or not let through; or it will see that its token is
 * gone. */
int targets_delete_blocking(struct server *server, const char *id, struct err *e)
{
	if (!text_is_id(id))
		return err_set(e, ERR_NOT_FOUND, "no target '%.64s'", id);
	int rc = mark_leaving(server, id, e);
	if (rc == ERR_NOT_FOUND)
		return rc;
	/* Also when the store did not say whether it is marked. */
	control_disconnect_blocking(server, id, 4403, "the target was deregistered");
	control_tell_target_changed_blocking(server, id);
	if (rc == 0)
		rc = forget_tokens(server, id, e);
	if (rc == 0)
		rc = sessions_end_target_blocking(server, id, 4011, "the target was deregistered", "server", e);
	if (rc == 0) {
		forget_reports(server, id);
		rc = delete_leaving(server, id, e);
	}
	return rc ? err_wrap(e, "target %s is not deregistered yet, ask again", id) : 0;
}

static void note_seen(struct server *server, json_t *doc, wsconn_id conn, const struct targets_agent *agent)
{
	int64_t now_ms = clock_wall_ms();
	json_object_set_new(doc, "last_seen", json_integer(now_ms));
	json_object_set_new(doc, "connected_since", json_integer(agent ? now_ms : 0));
	json_object_set_new(doc, "node", json_string(server->node));
	if (!agent)
		return;
	json_object_set_new(doc, "connection", json_integer((json_int_t)conn));
	json_object_set_new(doc, "version", json_string(agent->version));
	json_object_set_new(doc, "ssh_host_keys", json_deep_copy(agent->ssh_host_keys));
	json_object_set_new(doc, "ssh_loopback", json_boolean(agent->ssh_loopback));
	json_object_set_new(doc, "features", agent->features ? json_deep_copy(agent->features) : json_array());
}

/* Not the connection that the record tells of: the agent has come back in between, here or through another node. */
static bool is_superseded(const struct server *server, const json_t *doc, wsconn_id conn)
{
	return strcmp(record_text(doc, "node"), server->node) != 0 || record_int(doc, "connection") != (int64_t)conn;
}

int targets_seen_blocking(struct server *server, const char *id, const char *identity, wsconn_id conn,
			  const struct targets_agent *agent, bool *out_changed, struct err *e)
{
	bool told = false;
	for (int i = 0; i < TRIES; i++) {
		json_auto_t *doc = NULL;
		uint64_t at = 0;
		int rc = store_get_blocking(server->store, "targets", id, &doc, &at, e);
		if (rc)
			return rc == ERR_NOT_FOUND ? err_set(e, rc, "no target '%s'", id) : rc;
		if (identity && (rc = targets_check_identity(doc, identity, e)) != 0)
			return rc;
		if (identity && (rc = target_key_confirm_blocking(server, doc, identity, &told, e)) != 0)
			return rc;
		if (!agent && is_superseded(server, doc, conn))
			return 0;
		note_seen(server, doc, conn, agent);
		rc = store_put_blocking(server->store, "targets", id, doc, at, 0, NULL, NULL, e);
		if (rc == 0 && out_changed)
			*out_changed = told;
		if (rc != ERR_CONFLICT)
			return rc;
	}
	return err_set(e, ERR_UNAVAILABLE, "target %s: its record changed %d times under this request", id, TRIES);
}

json_t *targets_view(struct server *server, const json_t *doc)
{
	const char *id = record_text(doc, "id");
	char node[LIMIT_ID + 1];
	int64_t since_ms = record_int(doc, "connected_since");
	/* After a crash the record still says "connected". */
	bool connected = session_home_of_target(server, doc, node);
	bool here = strcmp(node, server->node) == 0;
	json_t *tags = json_object_get(doc, "tags");
	return json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:s, s:I}", "id", id, "tags",
			 tags ? json_incref(tags) : json_object(), "state",
			 targets_is_leaving(doc) ? "deregistering"
			 : connected             ? "connected"
						 : "disconnected",
			 "node", connected ? json_string(node) : json_null(), "connected_since",
			 record_time(connected ? since_ms : 0), "last_seen",
			 record_time(connected && here ? clock_wall_ms() : record_int(doc, "last_seen")), "version",
			 record_text(doc, "version"), "sessions",
			 (json_int_t)control_sessions_anythread(server->control, id));
}
