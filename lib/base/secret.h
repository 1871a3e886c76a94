/* Secrets: random, wiping, and files that only their owner may read. */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"

#include <stddef.h>

#define SECRET_TOKEN_TEXT TEXT_B64URL_SIZE(32) /* room for 256 random bits as base64url, with NUL */

void secret_wipe(void *data, size_t len);
/* A copy in memory that is not swapped, as far as process_guard has made some; NULL when out of memory. */
char *secret_dup(const char *text);
void secret_free_text(char **text); /* wipes, frees and nulls a string of secret_dup or malloc */
/* Never fails: aborts when the system has no randomness. Any thread. */
void secret_random(void *out, size_t len);
void secret_token(char out[SECRET_TOKEN_TEXT]);
/* Letters a-z and digits, n of them, without NUL-terminator counted: out has n + 1 bytes. For ids, not for secrets. */
void secret_random_id(char *out, size_t n);
void secret_sha256(const void *data, size_t len, unsigned char out[32]);

/* Reads a file whose mode grants nothing to group and others and whose owner is root or this user; else ERR_DENIED with
 * a text that names the file, its mode and "chmod 600". At most LIMIT_SECRET_FILE bytes. out is initialised here. */
int secret_read_file(const char *path, struct buf *out, struct err *e);
/* The same as text, without line breaks and blanks at its end; free with secret_free_text. Kept as by secret_dup. */
int secret_read_text(const char *path, char **out, struct err *e);
/* Refuses what secret_read_file refuses for its kind, mode or owner; reads nothing. */
int secret_check_file(const char *path, struct err *e);
/* Cuts blanks and line breaks off the end. */
void secret_trim(char *text);
/* Creates or replaces (write to a temporary, fsync, rename) with mode 0600. */
int secret_write_file(const char *path, const void *data, size_t len, struct err *e);

#endif
