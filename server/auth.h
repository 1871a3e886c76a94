/* The chain of auth providers, in configured order; the first that recognises the credential decides. Blocking: workers
 * only. */
#ifndef SERVER_AUTH_H
#define SERVER_AUTH_H

#include "base/err.h"
#include "server/api.h"
#include "server/guesses.h"
#include "server/plugin_host.h"

#include <jansson.h>

struct auth_chain;

struct identity {
	char subject[TUNNEL_SUBJECT_MAX];
	char credential[TUNNEL_CREDENTIAL_MAX];
	char provider[65];
	json_t *groups; /* array of strings, never NULL */
	json_t *claims; /* object, never NULL */
	int64_t expires_ms;
	struct tunnel_identity raw; /* for authorize */
};
void identity_free(struct identity *id);

int auth_open(const char *plugin_dir, const struct conf_sections *sections, struct metrics *metrics,
	      struct auth_chain **out_chain, struct err *e);
void auth_close(struct auth_chain **chain);
/* How many calls one provider may be at, at once. */
void auth_limit_calls(struct auth_chain *chain, size_t calls);
int auth_reload(struct auth_chain *chain, struct err *e); /* all are tried; the first failure is told */
/* What the request claims: "provider/key id" where the provider can name it, else its Authorization header, which is a
 * secret. *out_name is what out points to: malloc'd, to be wiped; NULL with a request that carries neither. */
void auth_claim_blocking(struct auth_chain *chain, const struct api_request *request, struct guess *out,
			 char **out_name);
/* 0; ERR_NOT_FOUND (no credential); ERR_DENIED (nobody recognised it, or it is wrong); ERR_UNAVAILABLE; words in e. */
int auth_verify_blocking(struct auth_chain *chain, const struct api_request *request, struct identity *out,
			 struct err *e);
/* Does that provider want to be asked by auth_authorize_blocking? Any thread. */
bool auth_is_asked_anythread(const struct auth_chain *chain, const char *provider);
/* Vetoes and allows of the identity's own provider: 1 allow, 0 no opinion, -1 veto or failure (words in e). */
int auth_authorize_blocking(struct auth_chain *chain, const struct identity *id, const char *action,
			    const char *resource, const json_t *context, struct err *e);

#endif
