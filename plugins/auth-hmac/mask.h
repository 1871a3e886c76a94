/* Secrets, taken out of the text of a credentials file before libconfig reads it: its copies are freed as they are. */
#ifndef AUTH_HMAC_MASK_H
#define AUTH_HMAC_MASK_H

#include <stddef.h>

struct mask {
	char **at;
	size_t n;
};

/* Puts marks of their length in place of secrets. Some are left as they are: those with escapes, in several pieces or
 * over several lines, of a length that no secret may have, and all that there is no memory for. */
void mask_secrets(struct mask *m, char *text);
/* What the text of a secret stands for: the secret that was masked, or itself. NULL: a mark of none. */
const char *mask_secret(const struct mask *m, const char *text);
/* Gives the one that belongs to this text away, into memory that secret_free takes; NULL: out of memory. */
char *mask_take(struct mask *m, const char *text);
void mask_free(struct mask *m);

void secret_free(char *secret);

#endif
