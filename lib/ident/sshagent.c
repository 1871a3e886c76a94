#include "ident/sshagent.h"

#include "base/text.h"
#include "ident/sshcert.h"
#include "ident/sshwire.h"

#include <string.h>

#define CERTIFICATE_MAX (SSHCERT_TEXT / 4 * 3)
#define COMMENT "tunnel"

enum { FAILURE = 5, REQUEST_IDENTITIES = 11, IDENTITIES_ANSWER = 12, SIGN_REQUEST = 13, SIGN_RESPONSE = 14 };

/* It begins with its type, a nonce and the public key. */
static bool is_certificate_of(EVP_PKEY *key, const uint8_t *blob, size_t len)
{
	struct sshwire_reader r = { .at = blob, .left = len };
	uint8_t own[32];
	size_t own_len = sizeof own, n;
	bool typed = sshwire_string_is(&r, SSHWIRE_ED25519_CERT);
	sshwire_string(&r, &n);
	const uint8_t *theirs = sshwire_string(&r, &n);
	return typed && n == sizeof own && EVP_PKEY_get_raw_public_key(key, own, &own_len) == 1 &&
	       own_len == sizeof own && memcmp(own, theirs, sizeof own) == 0;
}

int sshagent_identity_init(struct sshagent_identity *id, EVP_PKEY *key, const char *certificate, struct err *e)
{
	static const char type[] = SSHWIRE_ED25519_CERT " ";
	uint8_t blob[CERTIFICATE_MAX];
	size_t len = 0;
	*id = (struct sshagent_identity){ .key = key, .certificate = BUF_INIT(CERTIFICATE_MAX) };
	if (!text_starts(certificate, type) ||
	    text_b64_decode(certificate + sizeof type - 1, strcspn(certificate + sizeof type - 1, " \n"), blob,
			    sizeof blob, &len) != 0)
		return err_set(e, ERR_INVALID, "the certificate is not \"" SSHWIRE_ED25519_CERT " base64\"");
	if (!is_certificate_of(key, blob, len))
		return err_set(e, ERR_INVALID, "the certificate belongs to another key");
	return buf_add(&id->certificate, blob, len) == 0 ? 0 : err_set(e, ERR_NOMEM, "out of memory");
}

void sshagent_identity_free(struct sshagent_identity *id)
{
	if (id)
		buf_free(&id->certificate);
}

size_t sshagent_request_size(const struct buf *buffer)
{
	struct sshwire_reader r = { .at = buf_data(buffer), .left = buffer->len };
	size_t size = sshwire_u32(&r);
	if (r.bad)
		return 0;
	if (size > SSHAGENT_REQUEST_MAX - 4)
		return SIZE_MAX;
	return size <= r.left ? 4 + size : 0;
}

static int list_identities(const struct sshagent_identity *id, struct buf *to)
{
	return buf_add_u8(to, IDENTITIES_ANSWER) | buf_add_u32(to, 1) |
	       sshwire_add(to, buf_data(&id->certificate), id->certificate.len) | sshwire_add_text(to, COMMENT);
}

/* The flags behind the data are for RSA. */
static int sign(const struct sshagent_identity *id, struct sshwire_reader *r, struct buf *to)
{
	size_t key_len, len;
	const uint8_t *key = sshwire_string(r, &key_len), *data = sshwire_string(r, &len);
	if (r->bad || key_len != id->certificate.len || memcmp(key, buf_data(&id->certificate), key_len) != 0)
		return buf_add_u8(to, FAILURE);
	return buf_add_u8(to, SIGN_RESPONSE) | sshwire_ed25519_sign(id->key, data, len, to);
}

int sshagent_answer(const struct sshagent_identity *id, const uint8_t *request, size_t size, struct buf *out)
{
	struct sshwire_reader r = { .at = request + 4, .left = size - 4 };
	struct buf b = BUF_INIT(SSHAGENT_ANSWER_MAX - 4);
	uint8_t type = 0;
	if (r.left > 0) {
		type = *r.at++;
		r.left--;
	}
	int bad = type == REQUEST_IDENTITIES ? list_identities(id, &b)
		  : type == SIGN_REQUEST     ? sign(id, &r, &b)
					     : buf_add_u8(&b, FAILURE);
	if (!bad)
		bad = sshwire_add(out, buf_data(&b), b.len);
	buf_free(&b);
	return bad;
}
