/* Who may act as an end of a session: the holder of its token who also proves the key that was named when the session
 * (client) or the target (agent) was made. A stolen token alone opens nothing, a recorded proof neither: it names
 * method, path and host, lives a minute and is taken once. */
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/text.h"
#include "ident/key.h"
#include "ident/proof.h"
#include "server/audit.h"
#include "server/guesses.h"
#include "server/policies.h"
#include "server/server.h"
#include "server/session_home.h"
#include "server/session_judge.h"
#include "server/session_record.h"
#include "server/session_state.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define PROOF_WINDOW_MS 60000

static void refuse(struct attach_decision *out, unsigned code, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void refuse(struct attach_decision *out, unsigned code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	text_vprint(out->text, sizeof out->text, fmt, ap);
	va_end(ap);
	out->close_code = code;
}

/* "host:443" and "host" are one authority over TLS. */
static size_t authority_len(const char *authority, size_t len, const char *scheme, size_t scheme_len)
{
	bool tls = scheme_len > 0 && (scheme[scheme_len - 1] == 's' || scheme[scheme_len - 1] == 'S');
	const char *port = tls ? ":443" : ":80";
	size_t n = strlen(port);
	return len > n && memcmp(authority + len - n, port, n) == 0 ? len - n : len;
}

/* scheme "://" authority path, nothing behind it. */
static bool htu_names(const char *htu, const char *host, const char *path)
{
	const char *colon = strstr(htu, "://");
	if (!colon)
		return false;
	size_t scheme_len = (size_t)(colon - htu);
	const char *authority = colon + 3, *slash = strchr(authority, '/');
	if (!slash || strcmp(slash, path) != 0)
		return false;
	size_t a = authority_len(authority, (size_t)(slash - authority), htu, scheme_len);
	size_t h = authority_len(host, strlen(host), htu, scheme_len);
	return a == h && strncasecmp(authority, host, a) == 0;
}

static bool token_is(const json_t *record, const char *key, const char *hash)
{
	const char *stored = record_text(record, key);
	return *stored && text_equal_secret(stored, strlen(stored), hash, strlen(hash));
}

static bool find_role(const json_t *record, const char *token, enum leg_role *out_role)
{
	char hash[SESSION_TOKEN_HASH];
	record_hash_token(token, hash);
	if (token_is(record, "client_token", hash))
		*out_role = LEG_CLIENT;
	else if (record_is_target_token(record, hash))
		*out_role = LEG_TARGET;
	else
		return false;
	return true;
}

/* Asks for no proof: it tells the holder no more than that his time is over. */
static bool of_earlier(const json_t *record, const char *token)
{
	char hash[SESSION_TOKEN_HASH];
	record_hash_token(token, hash);
	return record_had_token(record, hash);
}

static void check_proof(struct server *server, const json_t *record, const struct session_proof *p,
			struct attach_decision *out)
{
	struct proof_dpop dpop;
	struct err e;
	char pin[KEY_PIN_TEXT];
	int64_t now_ms = clock_wall_ms();
	int rc = proof_check_dpop(p->dpop, p->token, now_ms, PROOF_WINDOW_MS, &dpop, &e);
	if (rc) {
		refuse(out,
		       rc == ERR_TIMEOUT                       ? 4402
		       : rc == ERR_DENIED || rc == ERR_INVALID ? 4401
							       : 4503,
		       "DPoP %.240s", e.text);
		return;
	}
	key_pin_text(dpop.key_pin, pin);
	if (strcmp(pin, record_text(record, out->role == LEG_CLIENT ? "client_pin" : "target_pin")) != 0)
		refuse(out, 4401, "DPoP proof: made with another key than the session's %s named",
		       out->role == LEG_CLIENT ? "client" : "target");
	else if (strcmp(dpop.htm, p->method) != 0)
		refuse(out, 4401, "DPoP proof: htm is '%s', the request is %s", dpop.htm, p->method);
	else if (!p->host || !htu_names(dpop.htu, p->host, p->path))
		refuse(out, 4401, "DPoP proof: htu does not name this host and path (%.100s%.120s)",
		       p->host ? p->host : "no Host header", p->path);
	if (out->close_code)
		return;
	/* A proof is good until iat + window; after that and a clock's step back its id need not be remembered. An end
	 * of a session has a share of its own: an agent's many sessions have one key, and the path that a proof names
	 * is of one session. */
	char who[SESSION_ID_TEXT + KEY_PIN_TEXT];
	int n = snprintf(who, sizeof who, "%s %s", record_text(record, "id"), pin);
	enum replay_result seen = replay_check(server->sessions->proofs, who, (size_t)n, dpop.jti,
					       dpop.iat_ms + 2 * PROOF_WINDOW_MS, now_ms);
	if (seen == REPLAY_SEEN)
		refuse(out, 4401, "DPoP proof: its jti was used before");
	else if (seen == REPLAY_FULL)
		refuse(out, 4503, "too many attaches at once, try again");
}

void session_check_alive_blocking(struct server *server, const json_t *record, struct attach_decision *out)
{
	struct session_live row;
	const char *id = record_text(record, "id");
	if (record_ended(record)) {
		refuse(out, record_end_code(record), "%.250s", record_end_text(record));
	} else if (session_table_get(server->sessions->live, id, &row) && row.end_code) {
		refuse(out, row.end_code, "%.250s", row.end_text);
	} else if (record_int(record, "expires_ms") <= clock_wall_ms()) {
		struct err e;
		refuse(out, 4004, "%s", record_expiry_text(record_by_identity(record)));
		session_expire_blocking(server, id, record_int(record, "expires_ms"), out->text, &e);
	}
}

static void prove(struct server *server, const struct session_proof *proof, struct attach_decision *out,
		  json_t **out_record)
{
	json_auto_t *record = NULL;
	struct err e;
	int rc = record_get_blocking(server, proof->session, &record, NULL, &e);
	if (rc == ERR_NOT_FOUND) {
		refuse(out, 4404, "no such session");
		return;
	}
	if (rc) {
		refuse(out, 4503, "the session could not be looked up, try again: %.180s", e.text);
		return;
	}
	snprintf(out->session, sizeof out->session, "%s", record_text(record, "id"));
	if (!find_role(record, proof->token, &out->role)) {
		if (of_earlier(record, proof->token))
			refuse(out, 4001, RELAY_RESUMED_TEXT);
		else
			refuse(out, 4401, "the token is not one of this session's");
		return;
	}
	out->generation = record_generation(record);
	check_proof(server, record, proof, out);
	if (out->close_code)
		return;
	*out_record = json_incref(record);
	session_check_alive_blocking(server, record, out);
}

void session_prove_blocking(struct server *server, const struct session_proof *proof, struct attach_decision *out,
			    json_t **out_record)
{
	char text[160];
	const struct guess who = { .kind = GUESS_SESSION,
				   .address = proof->remote_address,
				   .credential = proof->session };
	*out = (struct attach_decision){ .close_code = 0 };
	out->wait_s = guess_wait_s(server, &who);
	if (out->wait_s) {
		refuse(out, 4503, "%s", guess_wait_text(out->wait_s, text, sizeof text));
		return;
	}
	prove(server, proof, out, out_record);
	/* Sessions that are not there count, too; not a proof that is right but for its time, nor what came after it.
	 */
	if (*out_record)
		guess_right(server, &who);
	else if (out->close_code == 4401 || out->close_code == 4404)
		guess_wrong_blocking(server, &who);
}

void session_audit_refusal(struct server *server, const json_t *record, const struct identity *caller,
			   const char *remote_address, const char *text)
{
	char resource[sizeof "session/" + LIMIT_ID];
	struct policy_decision d;
	snprintf(resource, sizeof resource, "session/%s", record_text(record, "id"));
	session_denied_by_anythread(server, record, caller, remote_address, &d);
	bool by_policy = d.effect == POLICY_DENY;
	audit_note_blocking(server->audit, "denied",
			    json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s?, s:s?, s:s}", "action", "tunnel:ResumeSession",
				      "resource", resource, "subject", record_text(record, "principal"), "provider",
				      record_text(record, "provider"), "remote_address", remote_address, "policy",
				      by_policy ? d.policy : NULL, "statement", by_policy ? d.statement : NULL, "text",
				      text));
}

/* Where its client is, or was last, it may not go on either: the sweep that a change of policy brings is about to end
 * it. Who asks before the sweep hears what he would hear after it. */
static void tell_revoked(struct server *server, const json_t *record, const char *refused, struct attach_decision *out)
{
	struct session_live row;
	json_auto_t *grant = NULL;
	struct err e;
	if (!session_table_get(server->sessions->live, record_text(record, "id"), &row))
		return;
	const char *own = *row.client_address ? row.client_address : record_text(record, "remote_address");
	if (strcmp(own, refused) != 0 &&
	    session_judge_again_blocking(server, record, NULL, own, &grant, &e) != ERR_DENIED)
		return;
	char text[sizeof out->text];
	snprintf(text, sizeof text, "%s", out->text);
	refuse(out, 4007, "policy no longer allows the session: %.200s", text);
	atomic_store(&server->sessions->rejudge_owed, true); /* so it does end, whatever the refusal came from */
}

/* rc: of the judgement, with e. */
static void refuse_judged(struct server *server, const json_t *record, const struct identity *caller,
			  const char *remote_address, int rc, const struct err *e, struct attach_decision *out)
{
	if (rc == ERR_DENIED) {
		refuse(out, 4403, "%.250s", e->text);
		session_audit_refusal(server, record, caller, remote_address, out->text);
		if (!caller)
			tell_revoked(server, record, remote_address, out);
	} else if (rc) {
		refuse(out, 4503, "policy could not be asked, try again: %.200s", e->text);
	}
}

void session_judge_attach_blocking(struct server *server, const json_t *record, const struct identity *caller,
				   const char *remote_address, struct attach_decision *out)
{
	json_auto_t *grant = NULL;
	struct err e;
	int rc = session_judge_again_blocking(server, record, caller, remote_address, &grant, &e);
	refuse_judged(server, record, caller, remote_address, rc, &e, out);
}

static void judge_client(struct server *server, const json_t *record, const char *remote_address,
			 struct attach_decision *out)
{
	struct err e;
	int rc = session_move_client_blocking(server, record, remote_address, &e);
	refuse_judged(server, record, NULL, remote_address, rc, &e, out);
}

static void decide(struct server *server, const struct attach_request *request, struct attach_decision *out)
{
	char path[sizeof "/v1/sessions//leg" + LIMIT_ID];
	json_auto_t *record = NULL;
	*out = (struct attach_decision){ .close_code = 0 };
	if (atomic_load(&server->draining)) {
		refuse(out, 4002, "the relay is going away, attach again");
		return;
	}
	if (!text_is_id(request->session)) {
		refuse(out, 4404, "no such session");
		return;
	}
	snprintf(path, sizeof path, "/v1/sessions/%s/leg", request->session);
	const struct session_proof proof = { .session = request->session,
					     .token = request->token,
					     .dpop = request->dpop,
					     .method = "GET",
					     .path = path,
					     .host = request->host,
					     .remote_address = request->remote_address };
	session_prove_blocking(server, &proof, out, &record);
	if (out->close_code)
		return;
	if (strcmp(record_text(record, "node"), server->node) != 0 && !session_home_claim_blocking(server, record)) {
		refuse(out, 4009, "the session lives on node %.64s", record_text(record, "node"));
		snprintf(out->relay_url, sizeof out->relay_url, "%s", record_text(record, "relay_url"));
		return;
	}
	if (out->role == LEG_CLIENT)
		judge_client(server, record, request->remote_address, out);
}

void sessions_attach_blocking(struct server *server, const struct attach_request *request, struct attach_decision *out)
{
	decide(server, request, out);
	if (out->close_code == 4401 || out->close_code == 4402)
		log_with(LOG_LEVEL_WARN,
			 FIELDS({ "session", request->session }, { "remote", request->remote_address },
				{ "reason", out->text }),
			 "a leg was refused");
}
