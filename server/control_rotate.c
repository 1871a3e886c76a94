/* An agent that changes its key (server/target_key.h). The next key's holder proves himself by an assertion for this
 * connection alone: its audience holds the connection's nonce, which the welcome told. */
#include "server/control_message.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/secret.h"
#include "base/text.h"
#include "ident/key.h"
#include "ident/proof.h"
#include "server/server.h"
#include "server/target_key.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void control_nonce(const struct control *c, wsconn_id conn, char out[CONTROL_NONCE])
{
	unsigned char text[sizeof c->nonce_key + sizeof conn], hash[32];
	memcpy(text, c->nonce_key, sizeof c->nonce_key);
	memcpy(text + sizeof c->nonce_key, &conn, sizeof conn);
	secret_sha256(text, sizeof text, hash);
	text_b64url(hash, sizeof hash, out, CONTROL_NONCE);
	secret_wipe(text, sizeof text);
}

static int check_proof(struct message *m, const char *key_text, const char *proof, struct err *e)
{
	EVP_PKEY *key = NULL;
	char nonce[CONTROL_NONCE], audience[sizeof PROOF_ROTATE_AUDIENCE + CONTROL_NONCE], jti[PROOF_JTI_MAX];
	int64_t exp_ms = 0;
	if (key_from_public_text(key_text, &key, e))
		return err_set(e, ERR_INVALID, "rotate.identity_key: not a P-256 public key in base64url DER");
	control_nonce(m->control, m->conn, nonce);
	snprintf(audience, sizeof audience, PROOF_ROTATE_AUDIENCE "%s", nonce);
	int rc = proof_check_assertion(proof, key, m->target, audience, clock_wall_ms(), jti, &exp_ms, e);
	EVP_PKEY_free(key);
	return rc;
}

static void answer(struct message *m, json_t *json)
{
	char *text = json ? json_text(json) : NULL;
	if (text)
		wsconn_send_text_anythread(m->server, m->conn, text);
	free(text);
	json_decref(json);
}

int control_on_rotate(struct message *m)
{
	const char *key = NULL, *proof = NULL;
	struct err why;
	const struct json_field fields[] = { { "identity_key", JSON_FIELD_STRING, true, 1, KEY_TEXT_MAX - 1, &key },
					     { "proof", JSON_FIELD_STRING, true, 1, PROOF_TEXT_MAX - 1, &proof },
					     { .name = NULL } };
	int rc = json_read(m->json, "rotate", false, fields, &m->e);
	if (rc)
		return rc;
	if (check_proof(m, key, proof, &why)) {
		answer(m, json_pack("{s:s, s:s}", "type", "rotate-refused", "text", why.text));
		return 0;
	}
	rc = target_key_offer_blocking(m->server, m->target, m->identity, key, &m->e);
	if (rc == 0)
		answer(m, json_pack("{s:s, s:s}", "type", "rotated", "identity_key", key));
	return rc;
}
