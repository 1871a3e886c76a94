/* The agent's files, one of them with any content, the others as they should be. The first byte says which:
 *   t target.json   i identity.pem   n identity.pem.next   l link.pem   h the SSH host key   c agent.conf
 * What is read is sound, and reads the same when it is written again; a file that is refused is named. */
#include "fuzz.h"

#include "agent/hostkeys.h"
#include "agent/settings.h"
#include "agent/state.h"
#include "base/text.h"
#include "ident/key.h"
#include "ident/sshcert.h"
#include "net/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char good_target[] = "{\"id\":\"web-1\",\"server\":\"https://tunnel.example\"}";
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	(void)fd;
	return 0;
}

static const char *folder;

static const char *path_of(const char *name)
{
	static char path[256];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static const char *good_key(void)
{
	static char *text;
	size_t size;
	if (text)
		return text;
	EVP_PKEY *key = key_generate(NULL);
	FUZZ_CHECK(key && key_save(path_of("good.pem"), key, NULL) == 0);
	EVP_PKEY_free(key);
	text = fuzz_get(path_of("good.pem"), &size);
	return text;
}

static void check_error(int rc, const struct err *e, const char *path)
{
	FUZZ_CHECK(rc < 0 && e->code == rc && e->text[0] && strstr(e->text, path));
}

/* A P-256 key with both halves, which is the same when it was saved. */
static void check_key(EVP_PKEY *key)
{
	EVP_PKEY *again = NULL;
	unsigned char pin[32], pin_again[32];
	char path[256];
	snprintf(path, sizeof path, "%s", path_of("saved.pem"));
	FUZZ_CHECK(key && key_pin(key, pin, NULL) == 0);
	FUZZ_CHECK(key_save(path, key, NULL) == 0 && key_load(path, &again, NULL) == 0);
	FUZZ_CHECK(key_pin(again, pin_again, NULL) == 0 && memcmp(pin, pin_again, sizeof pin) == 0);
	EVP_PKEY_free(again);
}

static void check_state(const char *name)
{
	struct state s;
	struct err e = { 0 };
	fuzz_fill(&s, sizeof s);
	int rc = state_load(folder, &s, &e);
	if (rc != 0) {
		check_error(rc, &e, path_of(name));
		FUZZ_CHECK(fuzz_is_untouched(&s, sizeof s));
		return;
	}
	FUZZ_CHECK(text_is_id(s.target) && s.server[0] && strlen(s.server) < sizeof s.server);
	check_key(s.identity);
	if (s.next)
		check_key(s.next);
	FUZZ_CHECK((s.next != NULL) == (state_has_next(folder) == 1));
	state_free(&s);
}

static void check_link_key(void)
{
	EVP_PKEY *key = NULL;
	struct err e = { 0 };
	int rc = state_load_link_key(folder, &key, &e);
	FUZZ_CHECK((rc == 0) == (key != NULL));
	if (rc == 0)
		check_key(key);
	else
		check_error(rc, &e, path_of("link.pem"));
	EVP_PKEY_free(key);
}

static void check_host_key(void)
{
	EVP_PKEY *key = NULL, *again = NULL;
	struct err e = { 0 };
	char text[SSHCERT_KEY_TEXT], text_again[SSHCERT_KEY_TEXT], saved[256];
	int rc = sshkey_load(path_of(HOSTKEYS_KEY), &key, &e);
	FUZZ_CHECK((rc == 0) == (key != NULL));
	if (rc != 0) {
		check_error(rc, &e, path_of(HOSTKEYS_KEY));
		return;
	}
	snprintf(saved, sizeof saved, "%s", path_of("saved"));
	FUZZ_CHECK(sshkey_public_text(key, text, &e) == 0 && sshkey_save(saved, key, "it", &e) == 0);
	FUZZ_CHECK(sshkey_load(saved, &again, &e) == 0 && sshkey_public_text(again, text_again, &e) == 0);
	FUZZ_CHECK(strcmp(text, text_again) == 0);
	EVP_PKEY_free(key);
	EVP_PKEY_free(again);
}

static void check_settings(void)
{
	struct settings s;
	struct err e = { 0 };
	int rc = settings_load(path_of("agent.conf"), folder, &s, &e);
	if (rc != 0) {
		check_error(rc, &e, "");
		return;
	}
	struct url url;
	for (size_t i = 0; i < s.servers.n; i++)
		FUZZ_CHECK(url_parse_secure(s.servers.at[i], &url, &e) == 0);
	FUZZ_CHECK(strcmp(s.state_dir, folder) == 0 && s.connect_timeout_ms >= 0 && s.key_rotation_ms >= 0);
	FUZZ_CHECK(s.ssh && s.sshd_path);
	settings_free(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	char what = (char)fuzz_byte(&in);
	folder = fuzz_folder();
	const struct {
		char letter;
		const char *name, *good;
	} files[] = {
		{ 't', "target.json", good_target }, { 'i', "identity.pem", good_key() },
		{ 'n', "identity.pem.next", NULL },  { 'l', "link.pem", good_key() },
		{ 'h', HOSTKEYS_KEY, NULL },         { 'c', "agent.conf", NULL },
	};
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		const char *path = path_of(files[i].name), *good = files[i].good;
		if (files[i].letter == what)
			fuzz_put(path, in.at, in.left);
		else if (good)
			fuzz_put(path, good, strlen(good));
		else
			unlink(path);
	}
	if (what == 't' || what == 'i' || what == 'n')
		check_state(what == 't' ? "target.json" : what == 'i' ? "identity.pem" : "identity.pem.next");
	else if (what == 'l')
		check_link_key();
	else if (what == 'h')
		check_host_key();
	else if (what == 'c')
		check_settings();
	return 0;
}
