/* With ssh = "host:port" nothing here is used by the agent itself; the CA key and the certificates are still written to
 * the state folder, so that the daemon's administrator can name them in its TrustedUserCAKeys and HostCertificate. */
#include "agent/hostkeys.h"

#include "agent/state.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/text.h"
#include "ident/sshcert.h"

#include <glob.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

static int own_key(const char *state_dir, char out[SSHCERT_KEY_TEXT], struct err *e)
{
	char path[STATE_PATH];
	EVP_PKEY *key = NULL;
	int rc = state_path(state_dir, HOSTKEYS_KEY, path, e);
	if (!rc)
		rc = sshkey_load(path, &key, e);
	if (rc == ERR_NOT_FOUND) {
		key = sshkey_generate(e);
		rc = key ? sshkey_save(path, key, "tunnel-agent", e) : ERR_NOMEM;
	}
	if (!rc)
		rc = sshkey_public_text(key, out, e);
	EVP_PKEY_free(key);
	return rc;
}

static void add_system_key(json_t *keys, const char *path)
{
	struct buf text;
	struct err e = { 0 };
	char key[SSHCERT_KEY_TEXT];
	if (json_array_size(keys) >= LIMIT_HOST_KEYS || file_read(path, SSHCERT_TEXT, &text, &e))
		return;
	char line[SSHCERT_TEXT + 1];
	memcpy(line, buf_data(&text), text.len);
	line[text.len] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	buf_free(&text);
	if (sshkey_check_public(line, key, &e))
		log_debug("%s is not reported: %s", path, e.text);
	else
		json_array_append_new(keys, json_string(key));
}

int hostkeys_list(const struct settings *settings, json_t **out_keys, struct err *e)
{
	char key[SSHCERT_KEY_TEXT];
	json_t *keys = json_array();
	if (!keys)
		return err_set(e, ERR_NOMEM, "out of memory");
	if (strcmp(settings->ssh, "sshd") == 0) {
		int rc = own_key(settings->state_dir, key, e);
		if (rc) {
			json_decref(keys);
			return rc;
		}
		json_array_append_new(keys, json_string(key));
	} else {
		glob_t found;
		if (glob("/etc/ssh/ssh_host_*_key.pub", 0, NULL, &found) == 0) {
			for (size_t i = 0; i < found.gl_pathc; i++)
				add_system_key(keys, found.gl_pathv[i]);
			globfree(&found);
		}
	}
	*out_keys = keys;
	return 0;
}

static int write_changed(const char *state_dir, const char *name, const struct buf *text, struct err *e)
{
	char path[STATE_PATH];
	struct buf old;
	int rc = state_path(state_dir, name, path, e);
	if (rc)
		return rc;
	if (file_read(path, text->len, &old, NULL) == 0) {
		bool same = old.len == text->len && memcmp(buf_data(&old), buf_data(text), old.len) == 0;
		buf_free(&old);
		if (same)
			return 0;
	}
	return file_write(path, buf_data(text), text->len, 0644, e);
}

static int write_line(const char *state_dir, const char *name, const char *line, struct err *e)
{
	struct buf text = BUF_INIT(SSHCERT_TEXT + 1);
	int rc = buf_printf(&text, "%s\n", line) ? err_set(e, ERR_LIMIT, "%s: it is too long", name)
						 : write_changed(state_dir, name, &text, e);
	buf_free(&text);
	return rc;
}

/* sshd's TrustedUserCAKeys: one a line. */
static int write_cas(const char *state_dir, const json_t *cas, struct err *e)
{
	struct buf text = BUF_INIT(LIMIT_SSH_CAS * SSHCERT_KEY_TEXT);
	char key[SSHCERT_KEY_TEXT];
	int rc = json_array_size(cas) ? 0 : err_set(e, ERR_PROTOCOL, "ssh_cas: empty");
	for (size_t i = 0; !rc && i < json_array_size(cas); i++) {
		if ((rc = sshkey_check_public(json_string_value(json_array_get(cas, i)), key, e)) != 0)
			err_wrap(e, "ssh_cas[%zu]", i);
		else if (buf_printf(&text, "%s\n", key))
			rc = err_set(e, ERR_LIMIT, "ssh_cas: more than %u keys", LIMIT_SSH_CAS);
	}
	if (!rc)
		rc = write_changed(state_dir, HOSTKEYS_CA, &text, e);
	buf_free(&text);
	return rc;
}

/* "ssh-ed25519-cert-v01@openssh.com AAAA…" on one line, for one of the types that are certified. */
static const char *certificate_file(const char *text)
{
	static const struct {
		const char *prefix, *file;
	} kinds[] = {
		{ "ssh-ed25519-cert-v01@openssh.com ", "ssh_host_ed25519_key-cert.pub" },
		{ "ecdsa-sha2-nistp256-cert-v01@openssh.com ", "ssh_host_ecdsa_key-cert.pub" },
		{ "ssh-rsa-cert-v01@openssh.com ", "ssh_host_rsa_key-cert.pub" },
	};
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return NULL;
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (text_starts(text, kinds[i].prefix))
			return kinds[i].file;
	return NULL;
}

int hostkeys_take(const struct settings *settings, const json_t *cas, const json_t *certificates, struct err *e)
{
	int rc = write_cas(settings->state_dir, cas, e);
	for (size_t i = 0; !rc && i < json_array_size(certificates); i++) {
		const char *text = json_string_value(json_array_get(certificates, i));
		const char *file = text ? certificate_file(text) : NULL;
		rc = file ? write_line(settings->state_dir, file, text, e)
			  : err_set(e, ERR_PROTOCOL, "host_certificates[%zu]: not a host certificate of a known type",
				    i);
	}
	return rc;
}
