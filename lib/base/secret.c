#include "base/secret.h"

#include "base/certain.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void secret_wipe(void *data, size_t len)
{
	OPENSSL_cleanse(data, len);
}

char *secret_dup(const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = size <= LIMIT_SECRET_KEPT ? OPENSSL_secure_malloc(size) : NULL;
	if (!copy && !(copy = malloc(size)))
		return NULL;
	memcpy(copy, text, size);
	return copy;
}

/* OpenSSL knows by the address what is its own. */
void secret_free_text(char **text)
{
	if (*text)
		OPENSSL_secure_clear_free(*text, strlen(*text));
	*text = NULL;
}

void secret_random(void *out, size_t len)
{
	while (len > 0 && RAND_bytes(out, (int)len) != 1)
		if (!certain_release())
			abort();
}

void secret_token(char out[SECRET_TOKEN_TEXT])
{
	unsigned char raw[32];
	secret_random(raw, sizeof raw);
	text_b64url(raw, sizeof raw, out, SECRET_TOKEN_TEXT);
	secret_wipe(raw, sizeof raw);
}

void secret_random_id(char *out, size_t n)
{
	static const char alphabet[] = "abcdefghijkmnpqrstuvwxyz23456789"; /* 32: no l, o, 0, 1 */
	secret_random(out, n);
	for (size_t i = 0; i < n; i++)
		out[i] = alphabet[out[i] & 31];
	out[n] = '\0';
}

void secret_sha256(const void *data, size_t len, unsigned char out[32])
{
	unsigned int n = 32;
	while (EVP_Digest(data, len, out, &n, EVP_sha256(), NULL) != 1)
		if (!certain_release())
			abort();
}

static int open_secret(const char *path, int *out_fd, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return err_set_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "%s", path);
	struct stat st;
	int rc = 0;
	if (fstat(fd, &st) != 0)
		rc = err_set_errno(e, ERR_IO, errno, "%s", path);
	else if (!S_ISREG(st.st_mode))
		rc = err_set(e, ERR_INVALID, "%s: not a regular file", path);
	else if (st.st_mode & 077)
		rc = err_set(e, ERR_DENIED, "%s: mode %04o lets others read a secret; run: chmod 600 %s", path,
			     (unsigned)(st.st_mode & 07777), path);
	else if (st.st_uid != 0 && st.st_uid != geteuid())
		rc = err_set(e, ERR_DENIED, "%s: owned by uid %u; it must be root or uid %u", path, (unsigned)st.st_uid,
			     (unsigned)geteuid());
	if (rc == 0)
		*out_fd = fd;
	else
		close(fd);
	return rc;
}

int secret_read_file(const char *path, struct buf *out, struct err *e)
{
	int fd = -1;
	int rc = open_secret(path, &fd, e);
	if (rc == 0)
		rc = file_read_fd(fd, path, LIMIT_SECRET_FILE, out, e);
	if (fd >= 0)
		close(fd);
	return rc;
}

int secret_check_file(const char *path, struct err *e)
{
	int fd = -1;
	int rc = open_secret(path, &fd, e);
	if (fd >= 0)
		close(fd);
	return rc;
}

void secret_trim(char *text)
{
	size_t n = strlen(text);
	while (n && (text[n - 1] == '\n' || text[n - 1] == '\r' || text[n - 1] == ' '))
		text[--n] = '\0';
}

int secret_read_text(const char *path, char **out, struct err *e)
{
	struct buf b;
	int rc = secret_read_file(path, &b, e);
	if (rc != 0)
		return rc;
	char *text = buf_take_text(&b), *kept = text ? secret_dup(text) : NULL;
	secret_free_text(&text);
	if (!kept)
		return err_set(e, ERR_NOMEM, "out of memory");
	secret_trim(kept);
	*out = kept;
	return 0;
}

int secret_write_file(const char *path, const void *data, size_t len, struct err *e)
{
	return file_write(path, data, len, 0600, e);
}
