/* OpenSSH keys. The first byte says what the rest is: 't' a public key's line, 'b' the blob of one, 'k' a private key
 * file, 'r' the bytes inside of one. A key that is taken can be named, printed and certified. */
#include "authority.h"
#include "fuzz.h"

#include "base/text.h"
#include "ident/sshcert.h"
#include "ident/sshwire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void certify(const char *line, enum sshcert_type type)
{
	static const char *const names[] = { "root", "deploy" };
	const struct sshcert cert = { .type = type,
				      .serial = 7,
				      .key_id = "s-1",
				      .principals = names,
				      .principal_count = 2,
				      .valid_after_s = 1,
				      .valid_before_s = 2,
				      .force_command = type == SSHCERT_USER ? "true" : NULL };
	char out[SSHCERT_TEXT];
	struct err e;
	size_t type_len = strcspn(line, " ");
	int rc = sshcert_sign(authority(), &cert, line, out, &e);
	FUZZ_CHECK(rc == 0 || (type == SSHCERT_USER && text_starts(line, SSHWIRE_RSA)));
	if (rc == 0)
		FUZZ_CHECK(strncmp(out, line, type_len) == 0 &&
			   text_starts(out + type_len, "-cert-v01@openssh.com AAAA"));
}

static void check_line(const char *text)
{
	char line[SSHCERT_KEY_TEXT], again[SSHCERT_KEY_TEXT], print[64];
	struct err e;
	fuzz_fill(line, sizeof line);
	int rc = sshkey_check_public(text, line, &e);
	if (rc != 0) {
		FUZZ_CHECK(e.code == rc && e.text[0] && fuzz_is_untouched(line, sizeof line));
		FUZZ_CHECK(sshkey_fingerprint(text, print, &e) == rc);
		return;
	}
	FUZZ_CHECK(strlen(line) < sizeof line && text_starts(text, line));
	FUZZ_CHECK(sshkey_check_public(line, again, &e) == 0 && strcmp(line, again) == 0);
	FUZZ_CHECK(sshkey_fingerprint(line, print, &e) == 0 && strlen(print) == 7 + 43);
	certify(line, SSHCERT_USER);
	certify(line, SSHCERT_HOST);
}

/* The line that has this blob, under the type that it names itself. */
static void check_blob(const uint8_t *blob, size_t len)
{
	struct sshwire_reader r = { .at = blob, .left = len };
	size_t type_len;
	const uint8_t *type = sshwire_string(&r, &type_len);
	FUZZ_CHECK(r.left <= len && type_len <= len);
	size_t size = type_len + 1 + TEXT_B64_SIZE(len);
	char *line = malloc(size);
	memcpy(line, type, type_len);
	line[type_len] = ' ';
	text_b64(blob, len, line + type_len + 1, TEXT_B64_SIZE(len));
	check_line(line);
	free(line);
}

static void check_file(const void *data, size_t len)
{
	EVP_PKEY *key = NULL;
	char line[SSHCERT_KEY_TEXT], again[SSHCERT_KEY_TEXT];
	struct err e;
	int rc = sshkey_load(fuzz_file(data, len), &key, &e);
	FUZZ_CHECK(rc == 0 ? key != NULL : !key && e.code == rc && e.text[0]);
	if (rc != 0)
		return;
	FUZZ_CHECK(sshkey_public_text(key, line, &e) == 0 && sshkey_check_public(line, again, &e) == 0);
	EVP_PKEY_free(key);
}

static void check_raw(const uint8_t *raw, size_t len)
{
	static const char begin[] = "-----BEGIN OPENSSH PRIVATE KEY-----\n",
			  end[] = "\n-----END OPENSSH PRIVATE KEY-----\n";
	size_t size = sizeof begin + TEXT_B64_SIZE(len) + sizeof end;
	char *b64 = malloc(TEXT_B64_SIZE(len)), *pem = malloc(size);
	text_b64(raw, len, b64, TEXT_B64_SIZE(len));
	int n = snprintf(pem, size, "%s%s%s", begin, b64, end);
	check_file(pem, (size_t)n);
	free(b64);
	free(pem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	char *text;
	switch (fuzz_byte(&in)) {
	case 'b':
		check_blob(in.at, in.left);
		break;
	case 'k':
		check_file(in.at, in.left);
		break;
	case 'r':
		check_raw(in.at, in.left);
		break;
	default:
		text = fuzz_text(in.at, in.left);
		check_line(text);
		free(text);
	}
	return 0;
}
