/* An agent changes its key in two steps. It offers the next one on a connection of the present one, and both count;
 * then it connects with the next one, and with its hello only that one counts. So whenever agent or server die in
 * between, the agent holds a key that is taken: the present one until it has used the next one, the next one from then
 * on. */
#include "server/target_key.h"

#include "base/clock.h"
#include "base/log.h"
#include "ident/key.h"
#include "server/audit.h"
#include "server/server.h"
#include "server/session_record.h"
#include "server/store.h"
#include "server/targets.h"

#include <string.h>

#define TRIES 32

/* false: there is no such key. */
static bool pin_of(const json_t *doc, const char *name, char out[KEY_PIN_TEXT])
{
	unsigned char pin[32];
	struct err e;
	if (key_pin_of_text(record_text(doc, name), pin, &e))
		return false;
	key_pin_text(pin, out);
	return true;
}

static bool is_key(const json_t *doc, const char *name, const char *identity)
{
	char pin[KEY_PIN_TEXT];
	return pin_of(doc, name, pin) && strcmp(pin, identity) == 0;
}

int targets_check_identity(const json_t *doc, const char *identity, struct err *e)
{
	if (targets_is_leaving(doc))
		return err_set(e, ERR_DENIED, "target %s is being deregistered", record_text(doc, "id"));
	if (is_key(doc, "identity_key", identity) || is_key(doc, "next_identity_key", identity))
		return 0;
	return err_set(e, ERR_DENIED, "target %s has another key: it was enrolled again, or its agent changed it",
		       record_text(doc, "id"));
}

static int audit(struct server *server, const char *event, const json_t *doc, const char *pin, struct err *e)
{
	return audit_append_blocking(server->audit, event,
				     json_pack("{s:s, s:s}", "target", record_text(doc, "id"), "identity_pin", pin), e);
}

static int offer(struct server *server, json_t *doc, uint64_t at, const char *key, bool *told, struct err *e)
{
	char pin[KEY_PIN_TEXT];
	int rc = 0;
	json_object_set_new(doc, "next_identity_key", json_string(key));
	if (!pin_of(doc, "next_identity_key", pin))
		return err_set(e, ERR_INVALID, "identity_key: not a P-256 public key in base64url DER");
	if (!*told)
		rc = audit(server, "target.rotate", doc, pin, e);
	*told |= rc == 0;
	return rc ? rc
		  : store_put_blocking(server->store, "targets", record_text(doc, "id"), doc, at, 0, NULL, NULL, e);
}

int target_key_offer_blocking(struct server *server, const char *id, const char *identity, const char *key,
			      struct err *e)
{
	bool told = false;
	for (int i = 0; i < TRIES; i++) {
		json_auto_t *doc = NULL;
		uint64_t at = 0;
		int rc = store_get_blocking(server->store, "targets", id, &doc, &at, e);
		if (rc)
			return rc == ERR_NOT_FOUND ? err_set(e, rc, "no target '%s'", id) : rc;
		rc = targets_check_identity(doc, identity, e);
		if (rc || strcmp(record_text(doc, "identity_key"), key) == 0 ||
		    strcmp(record_text(doc, "next_identity_key"), key) == 0)
			return rc;
		rc = offer(server, doc, at, key, &told, e);
		if (rc != ERR_CONFLICT)
			return rc;
	}
	return err_set(e, ERR_UNAVAILABLE, "target %s: its record changed %d times under this request", id, TRIES);
}

/* Its report numbers go on. */
static int move_reports(struct server *server, const char *id, const char *identity, struct err *e)
{
	json_auto_t *doc = NULL;
	uint64_t at = 0;
	int rc = store_get_blocking(server->store, "reports", id, &doc, &at, e);
	if (rc == ERR_NOT_FOUND)
		return 0;
	if (rc || strcmp(record_text(doc, "identity"), identity) == 0)
		return rc;
	json_object_set_new(doc, "identity", json_string(identity));
	return store_put_blocking(server->store, "reports", id, doc, at, 0, NULL, NULL, e);
}

/* A hello that failed after its record was written comes again. Nothing has happened to the target in between, or it is
 * another rotation. */
static int was_told(struct server *server, const char *id, const char *pin, bool *out_told, struct err *e)
{
	struct audit_found found;
	const struct audit_query query = {
		.before = UINT64_MAX, .backward = true, .limit = 1, .target = id, .event = "target.*"
	};
	int rc = audit_search_blocking(server->audit, &query, &found, e);
	if (rc)
		return rc;
	const json_t *last = json_array_get(found.records, 0);
	*out_told = strcmp(record_text(last, "event"), "target.rotated") == 0 &&
		    strcmp(record_text(last, "identity_pin"), pin) == 0;
	json_decref(found.records);
	return 0;
}

int target_key_confirm_blocking(struct server *server, json_t *doc, const char *identity, bool *told, struct err *e)
{
	const char *id = record_text(doc, "id");
	if (is_key(doc, "identity_key", identity) || !is_key(doc, "next_identity_key", identity))
		return 0;
	int rc = move_reports(server, id, identity, e);
	if (rc == 0 && !*told)
		rc = was_told(server, id, identity, told, e);
	if (rc == 0 && !*told)
		rc = audit(server, "target.rotated", doc, identity, e);
	*told |= rc == 0;
	if (rc)
		return rc;
	json_object_set(doc, "identity_key", json_object_get(doc, "next_identity_key"));
	json_object_del(doc, "next_identity_key");
	json_object_set_new(doc, "rotated_at", json_integer(clock_wall_ms()));
	log_with(LOG_LEVEL_INFO, FIELDS({ "target", id }),
		 "the agent has changed its key; the one before counts no more");
	return 0;
}
