/* StartSession: check the request, find the target, ask policy, write record and audit event, then offer it to the
 * agent and answer.
 *
 * With an idempotency key the session's id is made from the caller and the key, so two requests that race meet at the
 * same record and one of them becomes the repetition; no lock, no second index. A start that failed after its record
 * was written, or may have been, left one that nobody was told of: the repetition writes over it. That may hit a
 * request that is still at work, and so the session belongs to whose target_token the record has once nothing is owed
 * for it any more; only he offers it. */
#include "server/session_start.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/text.h"
#include "ident/key.h"
#include "ident/sshcert.h"
#include "server/audit.h"
#include "server/control.h"
#include "server/endpoint_text.h"
#include "server/metrics.h"
#include "server/server.h"
#include "server/session_home.h"
#include "server/session_judge.h"
#include "server/session_peers.h"
#include "server/session_record.h"
#include "server/session_state.h"
#include "server/sshca.h"
#include "server/store.h"
#include "server/targets.h"

#include <stdlib.h>
#include <string.h>

#define ID_RANDOM 20 /* characters: 103 bits */
#define TRIES 3      /* of a start whose record another request with the same key was quicker to write */

struct start {
	struct server *server;
	const struct session_caller *caller;
	const struct identity *id;
	const char *remote_address;
	json_t *body;
	/* the body's fields */
	const char *target, *kind, *login, *client_key, *ssh_public_key, *idempotency_key, *reason;
	json_t *selector, *allow;
	/* derived */
	char client_pin[KEY_PIN_TEXT], ssh_key[SSHCERT_KEY_TEXT];
	char session[SESSION_ID_TEXT], request_hash[SESSION_TOKEN_HASH];
	char client_token[SECRET_TOKEN_TEXT],
		target_token[SECRET_TOKEN_TEXT]; /* client_token "": another node has it */
	char client_hash[SESSION_TOKEN_HASH];
	json_t *target_doc;
	bool ssh_forwarding;
	uint64_t over;    /* version of the record that is written over; TUNNEL_VERSION_NONE: there is none */
	bool owes;        /* that one still owes its start to the audit log, which stands behind … */
	int64_t owed_seq; /* … this */
};

/* ---- the request ---- */

static int check_target(const struct start *s, struct err *e)
{
	if (!s->target == !s->selector)
		return err_set(e, ERR_INVALID, "body: give either target or selector");
	if (s->target && !text_is_id(s->target))
		return err_set(e, ERR_INVALID, "body.target: not a target id; allowed: letters, digits, '.', '_', '-'");
	const char *key;
	json_t *value;
	if (s->selector && (json_object_size(s->selector) == 0 || json_object_size(s->selector) > LIMIT_TAGS))
		return err_set(e, ERR_INVALID, "body.selector: %zu tags; allowed: 1 to %u",
			       json_object_size(s->selector), LIMIT_TAGS);
	json_object_foreach(s->selector, key, value)
	{
		if (!json_is_string(value))
			return err_set(e, ERR_INVALID, "body.selector.%.128s: expected string", key);
	}
	return 0;
}

static int check_ssh(struct start *s, struct err *e)
{
	if (!s->login || !s->ssh_public_key)
		return err_set(e, ERR_INVALID, "body.%s: missing (string); kind ssh needs login and ssh_public_key",
			       s->login ? "ssh_public_key" : "login");
	if (!text_is_login(s->login))
		return err_set(e, ERR_INVALID,
			       "body.login: not a login name; allowed: a-z, 0-9, '_', '.', '-', at most "
			       "%u characters",
			       LIMIT_LOGIN);
	if (json_array_size(s->allow))
		return err_set(e, ERR_INVALID, "body.allow: belongs to kind tcp");
	int rc = sshkey_check_public(s->ssh_public_key, s->ssh_key, e);
	if (rc == ERR_NOMEM)
		return rc;
	if (rc)
		return err_set(e, ERR_INVALID, "body.ssh_public_key: not a public key that can be certified");
	if (!text_starts(s->ssh_key, "ssh-ed25519 ") && !text_starts(s->ssh_key, "ecdsa-sha2-nistp256 "))
		return err_set(e, ERR_INVALID, "body.ssh_public_key: allowed are ssh-ed25519 and ecdsa-sha2-nistp256");
	return 0;
}

static int check_tcp(const struct start *s, struct err *e)
{
	if (s->login || s->ssh_public_key)
		return err_set(e, ERR_INVALID, "body.%s: belongs to kind ssh", s->login ? "login" : "ssh_public_key");
	if (json_array_size(s->allow) == 0)
		return err_set(e, ERR_INVALID, "body.allow: kind tcp needs 1 to %u entries of host:port", LIMIT_ALLOW);
	for (size_t i = 0; i < json_array_size(s->allow); i++)
		if (endpoint_text_check(json_string_value(json_array_get(s->allow, i)), e))
			return err_wrap(e, "body.allow[%zu]", i);
	return 0;
}

static int check_kind(struct start *s, struct err *e)
{
	if (strcmp(s->kind, "ssh") == 0)
		return check_ssh(s, e);
	if (strcmp(s->kind, "tcp") == 0)
		return check_tcp(s, e);
	return err_set(e, ERR_INVALID, "body.kind: '%.32s' is unknown; allowed: ssh, tcp", s->kind);
}

/* What makes two requests the same: all fields, whatever their order. */
static int hash_request(struct start *s, struct err *e)
{
	char *text = json_dumps(s->body, JSON_COMPACT | JSON_SORT_KEYS);
	if (!text)
		return err_set(e, ERR_NOMEM, "out of memory");
	record_hash_token(text, s->request_hash);
	if (s->caller->sent_on)
		snprintf(s->request_hash, sizeof s->request_hash, "%s", s->caller->request_hash);
	free(text);
	return 0;
}

static int read_request(struct start *s, struct err *e)
{
	const struct json_field fields[] = {
		{ "target", JSON_FIELD_STRING, false, 1, LIMIT_ID, &s->target },
		{ "selector", JSON_FIELD_OBJECT, false, 0, 0, &s->selector },
		{ "kind", JSON_FIELD_STRING, true, 1, 16, &s->kind },
		{ "login", JSON_FIELD_STRING, false, 1, LIMIT_LOGIN, &s->login },
		{ "allow", JSON_FIELD_STRINGS, false, 0, LIMIT_ALLOW, &s->allow },
		{ "client_key", JSON_FIELD_STRING, true, 1, KEY_TEXT_MAX - 1, &s->client_key },
		{ "ssh_public_key", JSON_FIELD_STRING, false, 1, SSHCERT_KEY_TEXT - 1, &s->ssh_public_key },
		{ "idempotency_key", JSON_FIELD_STRING, false, 1, 64, &s->idempotency_key },
		{ "reason", JSON_FIELD_STRING, false, 0, LIMIT_REASON, &s->reason },
		{ .name = NULL },
	};
	int rc = json_read(s->body, "body", true, fields, e);
	if (rc == 0)
		rc = check_target(s, e);
	if (rc == 0)
		rc = check_kind(s, e);
	if (rc == 0)
		rc = record_client_pin(s->client_key, s->client_pin, e);
	return rc ? rc : hash_request(s, e);
}

static void name_session(struct start *s)
{
	memcpy(s->session, "s-", 3);
	if (!s->idempotency_key) {
		secret_random_id(s->session + 2, ID_RANDOM);
		return;
	}
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
	unsigned char parts[96], hash[32];
	secret_sha256(s->id->provider, strlen(s->id->provider), parts);
	secret_sha256(s->id->subject, strlen(s->id->subject), parts + 32);
	secret_sha256(s->idempotency_key, strlen(s->idempotency_key), parts + 64);
	secret_sha256(parts, sizeof parts, hash);
	for (size_t i = 0; i < ID_RANDOM; i++)
		s->session[2 + i] = letters[hash[i] % 32];
	s->session[2 + ID_RANDOM] = '\0';
}

/* ---- the target ---- */

static struct session_ask ask_of(const struct start *s, json_t *target_doc)
{
	return (struct session_ask){ .id = s->id,
				     .remote_address = s->remote_address,
				     .target = target_doc ? record_text(target_doc, "id") : s->target,
				     .tags = target_doc ? json_object_get(target_doc, "tags") : NULL,
				     .kind = s->kind,
				     .login = s->login,
				     .allow = s->allow };
}

static int find_by_id(struct start *s, struct err *e)
{
	int rc = targets_get_blocking(s->server, s->target, &s->target_doc, e);
	if (rc != ERR_NOT_FOUND)
		return rc;
	/* Whoever may not start sessions there does not learn whether it exists. */
	struct session_ask ask = ask_of(s, NULL);
	rc = session_judge_start_blocking(s->server, &ask, e);
	return rc ? rc : err_set(e, ERR_NOT_FOUND, "no target '%s'", s->target);
}

static bool selected(const json_t *selector, const json_t *doc)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)selector, key, value)
	{
		if (!json_equal(value, json_object_get(json_object_get(doc, "tags"), key)))
			return false;
	}
	return true;
}

struct selection {
	const json_t *selector;
	json_t *found;
};

static int collect_selected(void *arg, const char *key, json_t *doc, uint64_t version)
{
	struct selection *sel = arg;
	(void)key, (void)version;
	if (!targets_is_leaving(doc) && selected(sel->selector, doc))
		json_array_append(sel->found, doc);
	return 0;
}

static int scan_selected(struct start *s, json_t *found, struct err *e)
{
	char cursor[TUNNEL_CURSOR_MAX] = "";
	struct selection sel = { s->selector, found };
	do {
		int rc = store_scan_blocking(s->server->store, "targets", NULL, NULL, LIMIT_SCAN_PAGE, cursor,
					     collect_selected, &sel, e);
		if (rc)
			return rc;
	} while (*cursor);
	return 0;
}

#define RANK_OFFLINE 2000000u
#define RANK_DENIED 4000000u

/* Better: allowed before not, then connected before not, then fewer sessions. */
static int rank(struct start *s, json_t *doc, size_t *out_rank, struct err *e)
{
	const char *id = record_text(doc, "id");
	struct session_ask ask = ask_of(s, doc);
	int rc = session_may_start_blocking(s->server, &ask, e);
	if (rc && rc != ERR_DENIED)
		return rc;
	size_t load = control_sessions_anythread(s->server->control, id);
	char node[LIMIT_ID + 1];
	if (load > 1000000)
		load = 1000000;
	*out_rank = load + (session_home_of_target(s->server, doc, node) ? 0 : RANK_OFFLINE) +
		    (rc == ERR_DENIED ? RANK_DENIED : 0);
	return 0;
}

static int find_by_selector(struct start *s, struct err *e)
{
	json_auto_t *found = json_array();
	int rc = scan_selected(s, found, e);
	size_t best = SIZE_MAX, best_rank = SIZE_MAX;
	for (size_t i = 0; rc == 0 && i < json_array_size(found); i++) {
		size_t one = 0;
		rc = rank(s, json_array_get(found, i), &one, e);
		if (rc == 0 && one < best_rank) {
			best = i;
			best_rank = one;
		}
	}
	if (rc)
		return rc;
	if (best != SIZE_MAX && best_rank >= RANK_DENIED) {
		struct session_ask ask = ask_of(s, json_array_get(found, best));
		rc = session_judge_start_blocking(s->server, &ask, e); /* for its record in the audit log */
		if (rc != ERR_DENIED && rc != 0)
			return rc;
	}
	/* Which tags targets carry, and their names, are not told to those who may not start sessions there. */
	if (best_rank >= RANK_DENIED)
		return err_set(e, ERR_NOT_FOUND,
			       "no target where you may start sessions carries all tags of the "
			       "selector");
	s->target_doc = json_incref(json_array_get(found, best));
	return 0;
}

/* ---- record, offer, answer ---- */

static json_t *text_or_null(const char *text)
{
	return text && *text ? json_string(text) : json_null();
}

static json_t *make_record(const struct start *s, struct err *e)
{
	unsigned char pin[32];
	char target_pin[KEY_PIN_TEXT], target_hash[SESSION_TOKEN_HASH];
	int64_t now_ms = clock_wall_ms();
	if (key_pin_of_text(record_text(s->target_doc, "link_key"), pin, e)) {
		err_wrap(e, "target %s: its link key", record_text(s->target_doc, "id"));
		return NULL;
	}
	key_pin_text(pin, target_pin);
	record_hash_token(s->target_token, target_hash);
	json_t *doc = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:I, s:I}", "id", s->session, "target",
				record_text(s->target_doc, "id"), "kind", s->kind, "state", "starting", "principal",
				s->id->subject, "provider", s->id->provider, "bound",
				s->server->settings->bind_to_identity, "created_ms", (json_int_t)now_ms, "limit_ms",
				(json_int_t)now_ms + s->server->settings->session_max_ms);
	if (!doc) {
		err_set(e, ERR_NOMEM, "out of memory");
		return NULL;
	}
	json_t *tags = json_object_get(s->target_doc, "tags");
	json_object_set_new(doc, "login", text_or_null(s->login));
	json_object_set_new(doc, "allow", s->allow ? json_incref(s->allow) : json_array());
	json_object_set_new(doc, "reason", text_or_null(s->reason));
	json_object_set_new(doc, "ssh_public_key", text_or_null(s->ssh_key));
	json_object_set_new(doc, "tags", tags ? json_incref(tags) : json_object());
	json_object_set_new(doc, "client_pin", json_string(s->client_pin));
	json_object_set_new(doc, "target_pin", json_string(target_pin));
	json_object_set_new(doc, "client_token", json_string(s->client_hash));
	json_object_set_new(doc, "target_token", json_string(target_hash));
	json_object_set_new(doc, "request_hash", json_string(s->request_hash));
	json_object_set_new(doc, "idem", s->idempotency_key ? json_string(s->session) : json_null());
	json_object_set_new(doc, "remote_address", text_or_null(s->remote_address));
	json_object_set_new(doc, "node", json_string(s->server->node));
	json_object_set_new(doc, "relay_url", json_string(s->server->public_url));
	record_take_identity(doc, s->id);
	json_object_set_new(doc, "grant", session_grant(doc, s->allow, s->ssh_forwarding));
	record_owe(s->server, doc);
	if (s->owes)
		json_object_set_new(doc, "owed_seq", json_integer(s->owed_seq));
	return doc;
}

/* Durable record, durable audit event, in this order; the mark says that the second is owed. */
static int write_start(struct start *s, json_t *doc, struct err *e)
{
	struct server *server = s->server;
	json_auto_t *now = NULL;
	int rc = record_put_blocking(server, doc, s->over, NULL, e);
	if (rc)
		return rc;
	/* With a key another request may be paying the same debt. */
	rc = session_settle_blocking(server, s->session, !s->idempotency_key, &now, e);
	if (rc == 0 && strcmp(record_text(now, "target_token"), record_text(doc, "target_token")) != 0)
		return err_set(e, ERR_CONFLICT, "another request with the same idempotency key was quicker");
	if (rc == 0 && !session_adopt(server->sessions, doc, clock_mono_ms()))
		rc = err_set(e, ERR_NOMEM, "out of memory");
	if (rc == 0)
		session_table_keep_token(server->sessions->live, s->session, s->target_token);
	if (rc) {
		struct err why;
		session_take_back_blocking(server, doc, "the server could not write its start to the audit log", &why);
		return err_set(e, ERR_UNAVAILABLE, "the session could not be recorded, try again");
	}
	json_object_del(doc, "unfinished");
	return 0;
}

static int ssh_answer(const struct start *s, const json_t *doc, json_t **out, struct err *e)
{
	char certificate[SSHCERT_TEXT];
	int64_t lifetime_ms = s->server->settings->ssh_certificate_ms;
	int64_t left_ms = record_int(doc, "expires_ms") - clock_wall_ms();
	const struct sshca_user user = { .session = s->session,
					 .target = record_text(doc, "target"),
					 .login = record_text(doc, "login"),
					 .public_key = record_text(doc, "ssh_public_key"),
					 .lifetime_ms = left_ms < lifetime_ms ? left_ms : lifetime_ms,
					 .forwarding = s->ssh_forwarding,
					 .loopback = json_is_true(json_object_get(s->target_doc, "ssh_loopback")) };
	int rc = sshca_sign_user(s->server->sshca, &user, certificate, e);
	if (rc)
		return rc;
	json_t *host_keys = json_object_get(s->target_doc, "ssh_host_keys");
	json_t *cas = sshca_public(s->server->sshca, NULL);
	*out = json_pack("{s:s, s:s, s:O, s:o, s:s, s:o}", "login", record_text(doc, "login"), "certificate",
			 certificate, "host_ca", json_array_get(cas, 0), "host_cas", cas, "host_alias",
			 record_text(doc, "target"), "host_keys",
			 json_is_array(host_keys) ? json_incref(host_keys) : json_array());
	return 0;
}

static int make_answer(const struct start *s, const json_t *doc, json_t **out, struct err *e)
{
	json_t *ssh = NULL; /* the token of another node's caller is added there */
	int rc = strcmp(record_text(doc, "kind"), "ssh") == 0 ? ssh_answer(s, doc, &ssh, e) : 0;
	if (rc)
		return rc;
	*out = json_pack("{s:o, s:s, s:s, s:s}", "session", record_view(s->server, doc), "token", s->client_token,
			 "relay_url", record_text(doc, "relay_url"), "target_pin", record_text(doc, "target_pin"));
	if (ssh)
		json_object_set_new(*out, "ssh", ssh);
	return 0;
}

/* ---- repetition ---- */

static int change_token(void *arg, json_t *doc, struct err *e)
{
	if (record_ended(doc))
		return err_set(e, ERR_CLOSED, "the session has ended: %s", record_end_text(doc));
	if (json_is_true(json_object_get(doc, "unfinished")))
		return err_set(e, ERR_UNAVAILABLE, "the session is being started, try again");
	/* The caller's key is not the session's any more, so a token would be of no use to him; the other client's is.
	 */
	if (record_generation(doc) > 1)
		return err_set(e, ERR_CONFLICT, "the session was resumed from another client since: resume it");
	json_object_set_new(doc, "client_token", json_string(arg));
	return 0;
}

/* Before it was looked at, or since. */
static json_t *end_of(const struct start *s)
{
	json_auto_t *doc = NULL;
	struct err e;
	return record_get_blocking(s->server, s->session, &doc, NULL, &e) == 0 ? record_end_view(doc) : NULL;
}

static int repeat(struct start *s, json_t *doc, struct session_started *out, struct err *e)
{
	json_auto_t *grant = NULL;
	json_auto_t *now = NULL;
	int rc = 0;
	if (!record_ended(doc)) {
		rc = session_judge_again_blocking(s->server, doc, NULL, s->remote_address, &grant, e);
		if (rc == 0)
			rc = targets_get_blocking(s->server, record_text(doc, "target"), &s->target_doc, e);
	}
	if (rc == 0 && !record_ended(doc)) {
		/* The session goes on by the rights it was started with; a new token and certificate are for who the
		 * caller is now. */
		struct session_ask ask = ask_of(s, s->target_doc);
		rc = session_judge_start_blocking(s->server, &ask, e);
		if (rc == 0)
			rc = session_judge_forwarding_blocking(s->server, &ask, &s->ssh_forwarding, e);
	}
	if (rc == 0)
		rc = record_change_blocking(s->server, s->session, change_token, s->client_hash, &now, e);
	if (rc == ERR_CLOSED)
		out->ended = end_of(s);
	return rc ? rc : make_answer(s, now, &out->answer, e);
}

/* Nobody was told of it: it may be started anew. */
static bool is_unanswered(const json_t *doc)
{
	bool starting = json_is_true(json_object_get(doc, "unfinished")) && !json_object_get(doc, "resume_owed");
	return record_ended(doc) ? json_is_true(json_object_get(doc, "unanswered")) : starting;
}

/* The record of an earlier request with this key, and in s->over its version. One that is to be written over owes the
 * audit log no end any more. */
static int find_earlier(struct start *s, json_t **out_doc, struct err *e)
{
	for (;;) {
		json_auto_t *doc = NULL;
		int rc = record_get_blocking(s->server, s->session, &doc, &s->over, e);
		if (rc == 0 && strcmp(record_text(doc, "request_hash"), s->request_hash) != 0)
			return err_set(e, ERR_CONFLICT,
				       "body.idempotency_key: was used with another request, for session %s",
				       s->session);
		bool unfinished = json_is_true(json_object_get(doc, "unfinished"));
		if (rc == 0 && record_ended(doc) && is_unanswered(doc) && unfinished) {
			rc = session_settle_blocking(s->server, s->session, false, NULL, e);
			if (rc == 0)
				continue;
		}
		*out_doc = rc ? NULL : json_incref(doc);
		return rc;
	}
}

/* Was this key used before, and the caller perhaps told? rc is then in *out_rc. */
static bool repeated(struct start *s, struct session_started *out, int *out_rc, struct err *e)
{
	json_auto_t *doc = NULL;
	s->over = TUNNEL_VERSION_NONE;
	s->owes = false;
	if (!s->idempotency_key)
		return false;
	int rc = find_earlier(s, &doc, e);
	if (rc == ERR_NOT_FOUND)
		return false;
	if (rc == 0 && is_unanswered(doc)) {
		s->owes = !record_ended(doc);
		s->owed_seq = record_int(doc, "owed_seq");
		return false;
	}
	*out_rc = rc ? rc : repeat(s, doc, out, e);
	return true;
}

int session_offline(const json_t *target_doc, struct session_started *out, struct err *e)
{
	int64_t seen_ms = record_int(target_doc, "last_seen");
	char text[CLOCK_TEXT_LEN];
	out->offline = json_pack("{s:o}", "last_seen", record_time(seen_ms));
	return err_set(e, ERR_CONFLICT, "target %s is not connected; last seen %s", record_text(target_doc, "id"),
		       seen_ms ? clock_text(seen_ms, text) : "never");
}

/* No agent is here. While nothing can be written none comes back either, and the target is not to blame. */
static int nobody_home(struct start *s, struct session_started *out, struct err *e)
{
	bool stops = false;
	if (audit_waiting_anythread(s->server->audit, &stops) && stops)
		return err_set(e, ERR_UNAVAILABLE, "audit records wait to be written, so no session starts");
	return session_offline(s->target_doc, out, e);
}

/* The target's agent is on another node. One that was sent here for it comes from there: the agent moves just now. */
static int start_there(struct start *s, const char *node, struct session_started *out, struct err *e)
{
	if (s->caller->sent_on)
		return err_set(e, ERR_UNAVAILABLE, "the target's agent is changing its node, try again");
	json_auto_t *body = json_copy(s->body);
	json_object_del(body, "selector");
	json_object_set(body, "target", json_object_get(s->target_doc, "id"));
	return session_peers_start_blocking(s->server, node, s->caller, body, s->request_hash, s->client_token, out, e);
}

/* A deregistration, or an enrolment of another machine, ends the sessions that it finds: one whose record it did not
 * see must see its change. When that is not known the session stays, and nobody was told of it. */
static int check_target_is_same(const struct start *s, struct err *e)
{
	static const char text[] = "the target was deregistered or enrolled again";
	const char *id = record_text(s->target_doc, "id");
	json_auto_t *now = NULL;
	struct err why;
	int rc = targets_get_blocking(s->server, id, &now, e);
	if (rc && rc != ERR_NOT_FOUND)
		return rc;
	if (rc == 0 && json_equal(json_object_get(now, "link_key"), json_object_get(s->target_doc, "link_key")))
		return 0;
	sessions_end_blocking(s->server, s->session, 4011, text, "server", &why);
	return err_set(e, ERR_NOT_FOUND, "target %s: %s meanwhile", id, text);
}

static int start_new(struct start *s, struct session_started *out, struct err *e)
{
	struct session_ask ask = ask_of(s, s->target_doc);
	int rc = session_judge_start_blocking(s->server, &ask, e);
	if (rc == 0)
		rc = session_judge_forwarding_blocking(s->server, &ask, &s->ssh_forwarding, e);
	if (rc == 0)
		rc = endpoint_text_check_agent(s->target_doc, s->allow, e);
	if (rc)
		return rc;
	char node[LIMIT_ID + 1];
	if (!session_home_of_target(s->server, s->target_doc, node))
		return nobody_home(s, out, e);
	if (strcmp(node, s->server->node) != 0)
		return start_there(s, node, out, e);
	json_auto_t *doc = make_record(s, e);
	if (!doc)
		return ERR_INTERNAL;
	/* Signed before anything is written: what can fail for the request alone must not leave a session behind. */
	rc = make_answer(s, doc, &out->answer, e);
	if (rc)
		return rc;
	rc = write_start(s, doc, e);
	if (rc)
		return rc;
	if (!session_send_offer(s->server, doc, s->target_token)) {
		static const char text[] = "the target went offline before it got the offer";
		struct err why;
		if (session_take_back_blocking(s->server, doc, text, &why))
			sessions_end_blocking(s->server, s->session, 4013, text, "server", &why);
		return session_offline(s->target_doc, out, e);
	}
	rc = check_target_is_same(s, e);
	if (rc == 0)
		rc = session_judge_started_blocking(s->server, s->session, record_text(doc, "target"),
						    json_object_get(doc, "grant"), e);
	if (rc)
		return rc;
	metrics_add(s->server->metrics, METRIC_SESSIONS_STARTED, 1);
	log_with(LOG_LEVEL_INFO,
		 FIELDS({ "session", s->session }, { "target", ask.target }, { "principal", s->id->subject },
			{ "kind", s->kind }),
		 "session started");
	return 0;
}

static void make_tokens(struct start *s)
{
	secret_token(s->target_token);
	if (s->caller->sent_on) {
		snprintf(s->client_hash, sizeof s->client_hash, "%s", s->caller->client_hash);
	} else {
		secret_token(s->client_token);
		record_hash_token(s->client_token, s->client_hash);
	}
}

static int start_run(struct start *s, struct session_started *out, struct err *e)
{
	int rc = read_request(s, e);
	if (rc)
		return rc;
	name_session(s);
	make_tokens(s);
	for (int i = 0; i < TRIES; i++) {
		if (repeated(s, out, &rc, e))
			return rc;
		rc = s->target ? find_by_id(s, e) : find_by_selector(s, e);
		if (rc == 0)
			rc = start_new(s, out, e);
		if (rc != ERR_CONFLICT || out->offline || !s->idempotency_key)
			return rc;
		/* The same key, at the same time, was a moment quicker. */
		session_started_free(out);
		json_decref(s->target_doc);
		s->target_doc = NULL;
	}
	return err_set(e, ERR_UNAVAILABLE, "the session is being started, try again");
}

int session_start_blocking(struct server *server, const struct session_caller *caller, json_t *body,
			   struct session_started *out, struct err *e)
{
	struct start s = { .server = server,
			   .caller = caller,
			   .id = caller->id,
			   .remote_address = caller->remote_address,
			   .body = body };
	*out = (struct session_started){ .answer = NULL };
	int rc = start_run(&s, out, e);
	json_decref(s.target_doc);
	secret_wipe(s.client_token, sizeof s.client_token);
	secret_wipe(s.target_token, sizeof s.target_token);
	if (rc) {
		json_decref(out->answer);
		out->answer = NULL;
	}
	return rc;
}

void session_started_free(struct session_started *s)
{
	json_decref(s->answer);
	json_decref(s->offline);
	json_decref(s->ended);
	*s = (struct session_started){ .answer = NULL };
}
