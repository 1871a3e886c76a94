/* A profile: which server, how to prove who is calling. One group of ~/.config/tunnel/config. */
#ifndef CLI_PROFILE_H
#define CLI_PROFILE_H

#include "base/conf.h"
#include "cli/command.h"
#include "cli/oidc.h"

struct profile {
	char name[128]; /* which group of the file, for messages */
	struct conf_strings servers;
	char *ca_file, *proxy;
	int auth; /* enum profile_auth */
	struct oidc_settings oidc;
	char *token_file, *token_command;
	char *credentials; /* hmac: file with key_id and secret */
	char *region, *service;
	char *login;
};

extern const struct conf_row profile_rows[];

enum profile_auth { PROFILE_JWT, PROFILE_HMAC, PROFILE_OIDC };

int profile_load(const struct common_options *common, struct profile *out, struct err *e);
/* Calls each for the name of every profile that there is. */
int profile_each(const struct common_options *common, void (*each)(void *user, const char *name), void *user,
		 struct err *e);
void profile_free(struct profile *p);

/* The bearer token: environment TUNNEL_TOKEN, what tunnel-cli login keeps (signin.h), token_file, or the output of
 * token_command. background: the command gets no standard input, and what it says on standard error is dropped.
 * outlast_ms: one is wanted that is good for longer than until then, wall clock; 0: any. malloc'd; wipe with
 * secret_free_text. Any thread. ERR_UNAVAILABLE, ERR_TIMEOUT: an issuer that is needed does not answer. */
int profile_token(const struct profile *p, bool background, int64_t outlast_ms, char **out_token, struct err *e);
/* "key_id:secret", from environment TUNNEL_KEY_ID and TUNNEL_SECRET, or the credentials file. malloc'd; a secret. */
int profile_hmac(const struct profile *p, char **out_userpwd, struct err *e);

#endif
