/* What tunnel-cli login keeps: the tokens of one sign-in, in a file of mode 0600 in the user's state folder. Profiles
 * with the same issuer, client, scopes, audience, resource and token share a sign-in.
 *
 * Refresh tokens are used once: the issuer gives a new one with each refresh, and may end the sign-in when it sees an
 * old one again. So whoever refreshes or changes the file holds its lock, across processes, and looks at the file again
 * under it; the new tokens are on the disk before anybody uses them. */
#ifndef CLI_SIGNIN_H
#define CLI_SIGNIN_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct profile;
struct oidc_tokens;

/* The token that goes to the server, refreshed before it ends, or when it does not outlast_ms (profile_token). free
 * with secret_free_text. ERR_NOT_FOUND: nobody signed in; ERR_DENIED: the issuer ended the sign-in; both say what to
 * run. ERR_UNAVAILABLE, ERR_TIMEOUT: it ended and the issuer does not answer. Any thread. */
int signin_token_blocking(const struct profile *p, int64_t outlast_ms, char **out_token, struct err *e);
/* Keeps the tokens of a new sign-in in place of what there is. */
int signin_keep_blocking(const struct profile *p, const struct oidc_tokens *tokens, struct err *e);
/* Forgets them. *out_refresh_token: for revoking; NULL when there is none. 0 with *out_was false: there was none. */
int signin_forget_blocking(const struct profile *p, bool *out_was, char **out_refresh_token, struct err *e);
/* For who ends the program while other threads may be in here: waits until the issuer's answer to a refresh that is
 * under way is on disk, 15 s at most. None begins afterwards. */
void signin_leave_blocking(void);

#endif
