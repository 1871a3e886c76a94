/* Calls to an OpenID Connect issuer: discovery, the device authorization grant (RFC 8628), refreshing (RFC 6749),
 * revoking (RFC 7009). Over TLS alone, and each answer is bounded in size and time. Whatever an answer says is checked
 * before anything is built on it. Nothing here keeps state; signin.h does. All block. */
#ifndef CLI_OIDC_H
#define CLI_OIDC_H

#include "base/err.h"
#include "base/secret.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum oidc_token { OIDC_ID_TOKEN, OIDC_ACCESS_TOKEN };

/* Of a profile. */
struct oidc_settings {
	char *issuer, *client_id, *client_secret_file, *scopes;
	char *audience, *resource, *ca_file; /* NULL: none */
	int token;                           /* enum oidc_token */
};

/* What the issuer says of itself. */
struct oidc_issuer {
	const struct oidc_settings *settings; /* borrowed */
	const char *proxy;                    /* borrowed; as struct http_request.proxy */
	char *device_endpoint;                /* NULL: it does not know that grant */
	char *token_endpoint;
	char *revocation_endpoint; /* NULL: it has none */
	bool basic;                /* a secret goes into the Authorization header, not into the body */
	bool pkce;                 /* it knows S256 */
};

/* What a person is to be shown, and what is asked with. */
struct oidc_device {
	char *device_code, *user_code, *uri;
	char *uri_complete; /* NULL: there is none */
	char verifier[SECRET_TOKEN_TEXT];
	int64_t interval_ms, expires_in_ms;
};

struct oidc_tokens {
	char *token;         /* the one that goes to the server: a JWT */
	char *refresh_token; /* NULL: none came */
	char *subject;       /* claim sub of token */
	int64_t expires_ms;  /* claim exp of token, Unix time */
};

enum oidc_answer {
	OIDC_GRANTED,
	OIDC_PENDING, /* nobody has decided yet */
	OIDC_SLOWER,  /* the same, and the interval is to grow by 5 s */
	OIDC_AWAY,    /* no answer that counts came; ask again, later and later */
	OIDC_OVER,    /* denied, expired, or wrong: e says which */
};

/* ERR_INVALID when the document is not that issuer's or lacks what is needed. */
int oidc_discover_blocking(const struct oidc_settings *settings, const char *proxy, struct oidc_issuer *out,
			   struct err *e);
void oidc_issuer_free(struct oidc_issuer *issuer);

int oidc_device_begin_blocking(const struct oidc_issuer *issuer, struct oidc_device *out, struct err *e);
void oidc_device_free(struct oidc_device *device);
/* Once. *out is set with OIDC_GRANTED alone, e with OIDC_OVER and OIDC_AWAY. */
enum oidc_answer oidc_device_poll_blocking(const struct oidc_issuer *issuer, const struct oidc_device *device,
					   struct oidc_tokens *out, struct err *e);
/* ERR_DENIED: refused for good. ERR_UNAVAILABLE, ERR_TIMEOUT: no answer that counts. */
int oidc_refresh_blocking(const struct oidc_issuer *issuer, const char *refresh_token, struct oidc_tokens *out,
			  struct err *e);
/* Tells the issuer that a refresh token is no longer needed. */
int oidc_revoke_blocking(const struct oidc_issuer *issuer, const char *refresh_token, struct err *e);
void oidc_tokens_free(struct oidc_tokens *tokens);

/* Reads an answer of the token endpoint. In oidc_tokens.c. */
int oidc_read_tokens(const struct oidc_settings *settings, const json_t *answer, struct oidc_tokens *out,
		     struct err *e);

#endif
