#include "agent/rotation.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "ident/key.h"
#include "ident/proof.h"

#include <stdio.h>
#include <string.h>

void rotation_init(struct rotation *r, const struct settings *settings, struct state *state)
{
	*r = (struct rotation){ .settings = settings, .state = state };
}

EVP_PKEY *rotation_key(const struct rotation *r)
{
	return r->by_next && r->state->next ? r->state->next : r->state->identity;
}

bool rotation_refused(struct rotation *r)
{
	bool first = !r->refused;
	if (!r->state->next)
		return false;
	r->refused = true;
	r->by_next = !r->by_next;
	return first;
}

static json_t *make_offer(const struct rotation *r, int64_t clock_ahead_ms, struct err *e)
{
	char audience[sizeof PROOF_ROTATE_AUDIENCE + sizeof r->nonce], proof[PROOF_TEXT_MAX], key[KEY_TEXT_MAX];
	snprintf(audience, sizeof audience, PROOF_ROTATE_AUDIENCE "%s", r->nonce);
	int rc = key_public_text(r->state->next, key, e);
	if (!rc)
		rc = proof_make_assertion(r->state->next, r->state->target, audience, clock_wall_ms() + clock_ahead_ms,
					  proof, e);
	return rc ? NULL : json_pack("{s:s, s:s, s:s}", "type", "rotate", "identity_key", key, "proof", proof);
}

/* An old enough key gets a next one; with one there is an offer. */
static json_t *offer(struct rotation *r, int64_t clock_ahead_ms)
{
	const char *folder = r->settings->state_dir;
	struct err e = { 0 };
	int64_t age_ms = 0, every_ms = r->settings->key_rotation_ms;
	json_t *message = NULL;
	int rc = state_find_next(folder, r->state, &e);
	if (!rc && !r->state->next && every_ms)
		rc = state_identity_age_ms(folder, clock_wall_ms(), &age_ms, &e);
	if (!rc && !r->state->next && every_ms && age_ms >= every_ms) {
		rc = state_make_next(folder, &e);
		if (!rc)
			rc = state_find_next(folder, r->state, &e);
	}
	if (!rc && r->state->next && !r->nonce[0])
		log_warn("the key is not changed: the server does not know how; trying again with the next connection");
	else if (!rc && r->state->next)
		message = make_offer(r, clock_ahead_ms, &e);
	if (rc || (r->state->next && r->nonce[0] && !message))
		log_error("the key cannot be changed: %s", e.text);
	return message;
}

json_t *rotation_welcome(struct rotation *r, const char *nonce, int64_t clock_ahead_ms)
{
	struct err e = { 0 };
	snprintf(r->nonce, sizeof r->nonce, "%s", nonce ? nonce : "");
	r->refused = false;
	if (!r->by_next || !r->state->next)
		return offer(r, clock_ahead_ms);
	if (state_take_next(r->settings->state_dir, r->state, &e)) {
		log_error("the new key is in use, but stays the next one on disk: %s", e.text);
		return NULL;
	}
	r->by_next = false;
	log_with(LOG_LEVEL_INFO, FIELDS({ "target", r->state->target }), "the agent has a new key");
	return NULL;
}

json_t *rotation_look(struct rotation *r, int64_t clock_ahead_ms)
{
	return r->by_next ? NULL : offer(r, clock_ahead_ms);
}

bool rotation_stored(struct rotation *r, const char *key)
{
	char own[KEY_TEXT_MAX];
	struct err e;
	if (!r->state->next || key_public_text(r->state->next, own, &e) || strcmp(own, key) != 0)
		return false;
	r->by_next = true;
	return true;
}

void rotation_gone(struct rotation *r)
{
	r->nonce[0] = '\0';
}
