#include "cli/sshdir.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const file_names[] = { "key", "key-cert.pub", "known_hosts", "socket" };

static void file_in(const struct sshdir *d, const char *name, char out[PATH_MAX])
{
	snprintf(out, PATH_MAX, "%s/%s", d->path, name);
}

static int make_temporary(struct sshdir *d, struct err *e)
{
	const char *base = getenv("XDG_RUNTIME_DIR");
	if (!base || access(base, W_OK) != 0)
		base = getenv("TMPDIR");
	if (!base || !*base)
		base = "/tmp";
	if (strlen(base) > 60) /* the socket's path must fit sun_path */
		base = "/tmp";
	snprintf(d->path, sizeof d->path, "%s/tunnel-XXXXXX", base);
	if (!mkdtemp(d->path)) {
		d->path[0] = '\0';
		return err_set(e, ERR_IO, "no temporary folder below %s", base);
	}
	d->temporary = 1;
	return 0;
}

static int use_given(struct sshdir *d, const char *path, struct err *e)
{
	struct stat st;
	if (strlen(path) >= sizeof d->path)
		return err_set(e, ERR_INVALID, "--ssh-dir: path too long");
	int rc = file_mkdir(path, 0700, e);
	if (rc != 0)
		return rc;
	if (stat(path, &st) != 0 || (st.st_mode & 077) || st.st_uid != geteuid())
		return err_set(e, ERR_DENIED, "%s: must be yours alone; run: chmod 700 %s", path, path);
	char full[PATH_MAX];
	if (!realpath(path, full) || strlen(full) >= sizeof d->path)
		return err_set(e, ERR_INVALID, "%s: path too long", path);
	memcpy(d->path, full, strlen(full) + 1);
	return 0;
}

int sshdir_open(struct sshdir *d, const char *path, struct err *e)
{
	memset(d, 0, sizeof *d);
	int rc = path ? use_given(d, path, e) : make_temporary(d, e);
	if (rc != 0)
		return rc;
	char file[PATH_MAX];
	file_in(d, "key", file);
	EVP_PKEY *key = NULL;
	if (access(file, F_OK) == 0) {
		rc = sshkey_load(file, &key, e);
	} else {
		key = sshkey_generate(e);
		rc = key ? sshkey_save(file, key, "tunnel", e) : e->code;
	}
	if (rc == 0)
		rc = sshkey_public_text(key, d->public_key, e);
	EVP_PKEY_free(key);
	return rc;
}

static int write_known_hosts(const struct sshdir *d, const char *alias, const char *host_ca, const json_t *host_keys,
			     struct err *e)
{
	struct buf b = BUF_INIT(64 * 1024);
	size_t i;
	const json_t *key;
	int rc = host_ca ? buf_printf(&b, "@cert-authority %s %s\n", alias, host_ca) : 0;
	json_array_foreach(host_keys, i, key)
	{
		const char *text = json_string_value(key);
		if (rc == 0 && text && !strpbrk(text, "\r\n"))
			rc = buf_printf(&b, "%s %s\n", alias, text);
	}
	char file[PATH_MAX];
	file_in(d, "known_hosts", file);
	rc = rc == 0 ? file_write(file, buf_data(&b), b.len, 0600, e) : err_set(e, rc, "too many host keys");
	buf_free(&b);
	return rc;
}

int sshdir_fill(const struct sshdir *d, const json_t *ssh, struct err *e)
{
	const char *certificate = NULL, *host_ca = NULL, *alias = NULL;
	json_t *host_keys = NULL;
	const struct json_field fields[] = {
		{ "certificate", JSON_FIELD_STRING, true, 1, SSHCERT_TEXT, &certificate },
		{ "host_ca", JSON_FIELD_STRING, false, 1, SSHCERT_KEY_TEXT, &host_ca },
		{ "host_alias", JSON_FIELD_STRING, true, 1, 64, &alias },
		{ "host_keys", JSON_FIELD_STRINGS, false, 0, 16, &host_keys },
		{ .name = NULL },
	};
	int rc = json_read((json_t *)(size_t)ssh, "answer.ssh", false, fields, e);
	if (rc != 0)
		return rc;
	char file[PATH_MAX], line[SSHCERT_TEXT + 2];
	file_in(d, "key-cert.pub", file);
	int n = snprintf(line, sizeof line, "%s\n", certificate);
	rc = file_write(file, line, (size_t)n, 0600, e);
	return rc == 0 ? write_known_hosts(d, alias, host_ca, host_keys, e) : rc;
}

void sshdir_close(struct sshdir *d)
{
	if (!d->temporary || !d->path[0])
		return;
	for (size_t i = 0; i < sizeof file_names / sizeof *file_names; i++) {
		char file[PATH_MAX];
		file_in(d, file_names[i], file);
		unlink(file);
	}
	rmdir(d->path);
	d->path[0] = '\0';
}
