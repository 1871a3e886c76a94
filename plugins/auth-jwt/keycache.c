#include "keycache.h"

#include "key.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FORMAT 1

int keycache_read(const char *path, const char *source, char **out, size_t *out_len, char *err, size_t err_len)
{
	unsigned char *text = NULL;
	size_t len = 0;
	if (access(path, F_OK) != 0 && errno == ENOENT)
		return say(1, err, err_len, "%s: not there yet", path);
	if (key_read_file(path, 1, &text, &len, err, err_len) != 0)
		return -1;
	json_t *json = json_loadb((const char *)text, len, JSON_REJECT_DUPLICATES, NULL);
	secret_free(text, len);
	const char *from = json_string_value(json_object_get(json, "source"));
	int rc = -1;
	if (json_integer_value(json_object_get(json, "format")) != FORMAT)
		say(0, err, err_len, "%s: not a key cache of format %d; remove it", path, FORMAT);
	else if (!from || strcmp(from, source) != 0)
		rc = say(1, err, err_len, "%s: of another source", path);
	else if (!(*out = json_dumps(json_object_get(json, "jwks"), JSON_COMPACT)))
		say(0, err, err_len, "%s: it holds no keys; remove it", path);
	else
		rc = 0;
	if (rc == 0)
		*out_len = strlen(*out);
	json_decref(json);
	return rc;
}

static int write_all(int fd, const char *text, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, text + done, len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		done += (size_t)n;
	}
	return fsync(fd);
}

static int replace_file(const char *path, const char *text, char *err, size_t err_len)
{
	char *temporary = NULL;
	if (asprintf(&temporary, "%s.XXXXXX", path) < 0)
		return say(-1, err, err_len, "out of memory");
	int fd = mkostemp(temporary, O_CLOEXEC); /* mode 0600 */
	int rc = fd < 0 ? -1 : write_all(fd, text, strlen(text));
	if (rc == 0)
		rc = rename(temporary, path);
	if (rc != 0) {
		say(0, err, err_len, "%s: the issuer's keys are not kept: %s", path, strerror(errno));
		if (fd >= 0)
			unlink(temporary);
	}
	if (fd >= 0)
		close(fd);
	free(temporary);
	return rc == 0 ? 0 : -1;
}

int keycache_write(const char *path, const char *source, const char *jwks, size_t len, char *err, size_t err_len)
{
	json_t *keys = json_loadb(jwks, len, JSON_REJECT_DUPLICATES, NULL);
	json_t *json = json_pack("{s:i, s:s, s:o}", "format", FORMAT, "source", source, "jwks", keys);
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	int rc = text ? replace_file(path, text, err, err_len) : say(-1, err, err_len, "%s: out of memory", path);
	free(text);
	json_decref(json);
	return rc;
}
