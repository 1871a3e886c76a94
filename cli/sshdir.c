#include "cli/sshdir.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "cli/unixsock.h"
#include "net/tls_ciphers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* What ssh reads without it, and behind that OpenSSH's own ciphers with AES-GCM first: where the CPU has AES that
 * carries half as much again as ChaCha20. */
#define SYSTEM_CONFIG "/etc/ssh/ssh_config"
static const char config[] = "Include ~/.ssh/config\n"
			     "Include " SYSTEM_CONFIG "\n"
			     "Host *\n"
			     "\tCiphers aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,"
			     "aes128-ctr,aes192-ctr,aes256-ctr\n";

static const char *const file_names[] = { "known_hosts", "config", "socket", "agent" };

static const struct sshdir *volatile only_until_the_end; /* for sshdir_vanish */

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
		return err_set(e, ERR_IO, "no temporary folder below %s", base);
	}
	d->temporary = true;
	only_until_the_end = d;
	return 0;
}

static int use_given(struct sshdir *d, const char *path, struct err *e)
{
	struct stat st;
	int rc = file_mkdir(path, 0700, e);
	if (rc != 0)
		return rc;
	if (stat(path, &st) == 0 && st.st_uid != geteuid())
		return err_set(e, ERR_DENIED, "%s: belongs to somebody else (uid %u); name another folder", path,
			       (unsigned)st.st_uid);
	if (stat(path, &st) != 0 || (st.st_mode & 077))
		return err_set(e, ERR_DENIED, "%s: must be yours alone; run: chmod 700 %s", path, path);
	char full[PATH_MAX];
	if (!realpath(path, full) || strlen(full) >= sizeof d->path)
		return err_set(e, ERR_INVALID, "%s: path too long; at most %zu bytes, for a socket goes there", path,
			       sizeof d->path - 1);
	memcpy(d->path, full, strlen(full) + 1);
	return 0;
}

int sshdir_open(struct sshdir *d, const char *path, struct err *e)
{
	memset(d, 0, sizeof *d);
	d->key_file.fd = d->certificate_file.fd = -1;
	int rc = path ? use_given(d, path, e) : make_temporary(d, e);
	if (rc != 0)
		return rc;
	d->key = sshkey_generate(e);
	return d->key ? sshkey_public_text(d->key, d->public_key, e) : e->code;
}

static int add_known(struct buf *b, const char *mark, const char *alias, const json_t *keys)
{
	size_t i;
	const json_t *key;
	int rc = 0;
	json_array_foreach(keys, i, key)
	{
		const char *text = json_string_value(key);
		if (rc == 0 && text && !strpbrk(text, "\r\n"))
			rc = buf_printf(b, "%s%s %s\n", mark, alias, text);
	}
	return rc;
}

static int write_known_hosts(const struct sshdir *d, const char *alias, const json_t *host_cas, const json_t *host_keys,
			     struct err *e)
{
	struct buf b = BUF_INIT(64 * 1024);
	int rc = add_known(&b, "@cert-authority ", alias, host_cas);
	if (rc == 0)
		rc = add_known(&b, "", alias, host_keys);
	char file[PATH_MAX];
	file_in(d, "known_hosts", file);
	rc = rc == 0 ? file_write(file, buf_data(&b), b.len, 0600, e) : err_set(e, rc, "too many host keys");
	buf_free(&b);
	return rc;
}

static int put(const struct sshdir_hidden *h, const void *data, size_t len, struct err *e)
{
	if (h->fd >= 0 && write(h->fd, data, len) == (ssize_t)len)
		return 0;
	return err_set_errno(e, ERR_IO, errno, "a file in memory for ssh");
}

/* ssh, which closes what it inherits, opens it through /proc, once process_show allows that. */
static int hide(struct sshdir_hidden *h, const void *data, size_t len, struct err *e)
{
	h->fd = memfd_create("tunnel", MFD_CLOEXEC);
	snprintf(h->path, sizeof h->path, "/proc/%ld/fd/%d", (long)getpid(), h->fd);
	if (h->fd >= 0 && fchmod(h->fd, 0600) != 0)
		return err_set_errno(e, ERR_IO, errno, "a file in memory for ssh");
	return put(h, data, len, e);
}

/* Once both are there. */
static int show_certificate(const struct sshdir *d, struct err *e)
{
	char line[SSHCERT_TEXT + 1];
	if (d->certificate_file.fd < 0 || !d->certificate[0])
		return 0;
	int n = snprintf(line, sizeof line, "%s\n", d->certificate);
	return put(&d->certificate_file, line, (size_t)n, e);
}

int sshdir_fill(struct sshdir *d, const json_t *ssh, struct err *e)
{
	const char *certificate = NULL, *host_ca = NULL, *alias = NULL;
	json_t *host_keys = NULL, *host_cas = NULL;
	const struct json_field fields[] = {
		{ "certificate", JSON_FIELD_STRING, true, 1, SSHCERT_TEXT - 1, &certificate },
		{ "host_ca", JSON_FIELD_STRING, false, 1, SSHCERT_KEY_TEXT, &host_ca },
		{ "host_cas", JSON_FIELD_STRINGS, false, 0, LIMIT_SSH_CAS, &host_cas },
		{ "host_alias", JSON_FIELD_STRING, true, 1, 64, &alias },
		{ "host_keys", JSON_FIELD_STRINGS, false, 0, 16, &host_keys },
		{ .name = NULL },
	};
	int rc = json_read((json_t *)(size_t)ssh, "answer.ssh", false, fields, e);
	if (rc != 0)
		return rc;
	memcpy(d->certificate, certificate, strlen(certificate) + 1);
	rc = sshagent_identity_init(&d->identity, d->key, certificate, e);
	if (rc == 0)
		rc = show_certificate(d, e);
	if (rc != 0)
		return rc;
	json_auto_t *one = host_ca ? json_pack("[s]", host_ca) : NULL; /* a server of before the list */
	return write_known_hosts(d, alias, host_cas ? host_cas : one, host_keys, e);
}

/* ssh reads the system's config whosever it is, but includes none that somebody else could have written. In a user
 * namespace root's files are nobody's. */
static bool includes_system_config(void)
{
	struct stat st;
	return stat(SYSTEM_CONFIG, &st) != 0 || ((st.st_uid == 0 || st.st_uid == getuid()) && !(st.st_mode & 022));
}

int sshdir_show_files(struct sshdir *d, struct err *e)
{
	struct buf text;
	int rc = sshkey_text(d->key, "tunnel", &text, e);
	if (rc != 0)
		return rc;
	rc = hide(&d->key_file, buf_data(&text), text.len, e);
	buf_wipe_free(&text);
	if (rc == 0)
		rc = hide(&d->certificate_file, "", 0, e);
	if (rc == 0)
		rc = show_certificate(d, e);
	if (rc != 0 || !net_cpu_has_aes() || !includes_system_config())
		return rc;
	snprintf(d->config_file, sizeof d->config_file, "%s/config", d->path);
	return file_write(d->config_file, config, sizeof config - 1, 0600, e);
}

static void drop(struct sshdir_hidden *h)
{
	if (h->fd >= 0)
		close(h->fd);
	h->fd = -1;
}

int sshdir_listen(const struct sshdir *d, const char *name, struct err *e)
{
	char path[PATH_MAX];
	file_in(d, name, path);
	return unixsock_listen(path, e);
}

void sshdir_vanish(void)
{
	const struct sshdir *d = only_until_the_end;
	only_until_the_end = NULL;
	if (!d)
		return;
	int folder = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < sizeof file_names / sizeof *file_names; i++)
		unlinkat(folder, file_names[i], 0);
	if (folder >= 0)
		close(folder);
	rmdir(d->path);
}

void sshdir_close(struct sshdir *d)
{
	if (d->temporary)
		sshdir_vanish();
	d->temporary = false;
	drop(&d->key_file);
	drop(&d->certificate_file);
	sshagent_identity_free(&d->identity);
	EVP_PKEY_free(d->key);
	d->key = NULL;
}
