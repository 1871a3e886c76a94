/* Reading and writing SSH's length-prefixed encoding, and the check of public key lines that strangers send. */
#include "ident/sshwire.h"

#include "base/text.h"
#include "ident/key.h"
#include "ident/sshcert.h"

#include <string.h>

int sshwire_add(struct buf *b, const void *data, size_t len)
{
	int rc = buf_add_u32(b, (uint32_t)len);
	return rc ? rc : len ? buf_add(b, data, len) : 0;
}

int sshwire_add_text(struct buf *b, const char *text)
{
	return sshwire_add(b, text, strlen(text));
}

uint32_t sshwire_u32(struct sshwire_reader *r)
{
	if (r->bad || r->left < 4) {
		r->bad = true;
		return 0;
	}
	uint32_t v = (uint32_t)r->at[0] << 24 | (uint32_t)r->at[1] << 16 | (uint32_t)r->at[2] << 8 | r->at[3];
	r->at += 4;
	r->left -= 4;
	return v;
}

const uint8_t *sshwire_string(struct sshwire_reader *r, size_t *out_len)
{
	uint32_t len = sshwire_u32(r);
	*out_len = 0;
	if (r->bad || len > r->left) {
		r->bad = true;
		return (const uint8_t *)"";
	}
	const uint8_t *at = r->at;
	r->at += len;
	r->left -= len;
	*out_len = len;
	return at;
}

bool sshwire_string_is(struct sshwire_reader *r, const char *text)
{
	size_t len;
	const uint8_t *at = sshwire_string(r, &len);
	return !r->bad && len == strlen(text) && memcmp(at, text, len) == 0;
}

/* A positive number in its shortest form; its size in bits, or 0. */
static size_t positive_mpint_bits(const uint8_t *at, size_t len)
{
	if (!len || at[0] & 0x80 || (at[0] == 0 && (len < 2 || !(at[1] & 0x80))))
		return 0;
	if (at[0] == 0)
		at++, len--;
	size_t bits = len * 8;
	for (uint8_t top = at[0]; !(top & 0x80); top = (uint8_t)(top << 1))
		bits--;
	return bits;
}

static bool check_ecdsa(struct sshwire_reader *r)
{
	/* The same point as a JWK would carry; key.c knows whether it is on the curve. */
	size_t len;
	if (!sshwire_string_is(r, "nistp256"))
		return false;
	const uint8_t *point = sshwire_string(r, &len);
	if (len != 65 || point[0] != 0x04)
		return false;
	char x[TEXT_B64_SIZE(32)], y[TEXT_B64_SIZE(32)];
	text_b64url(point + 1, 32, x, sizeof x);
	text_b64url(point + 33, 32, y, sizeof y);
	json_t *jwk = json_pack("{s:s, s:s, s:s, s:s}", "kty", "EC", "crv", "P-256", "x", x, "y", y);
	EVP_PKEY *key = NULL;
	bool ok = jwk && key_from_jwk(jwk, &key, NULL) == 0;
	EVP_PKEY_free(key);
	json_decref(jwk);
	return ok;
}

static bool check_rsa(struct sshwire_reader *r)
{
	size_t e_len, n_len;
	const uint8_t *e = sshwire_string(r, &e_len), *n = sshwire_string(r, &n_len);
	size_t e_bits = positive_mpint_bits(e, e_len), n_bits = positive_mpint_bits(n, n_len);
	return e_bits >= 2 && e_bits <= 64 && e[e_len - 1] & 1 && n_bits >= 2048 && n_bits <= 4096 && n[n_len - 1] & 1;
}

static bool check_ed25519(struct sshwire_reader *r)
{
	size_t len;
	sshwire_string(r, &len);
	return len == 32;
}

static const struct {
	const char *type;
	bool (*check)(struct sshwire_reader *);
} types[] = {
	{ SSHWIRE_ED25519, check_ed25519 },
	{ SSHWIRE_ECDSA, check_ecdsa },
	{ SSHWIRE_RSA, check_rsa },
};

int sshwire_public_blob(const char *text, const char **out_type, struct buf *out, struct err *e)
{
	size_t i, len = 0, type_len = text ? strcspn(text, " ") : 0;
	for (i = 0; i < sizeof types / sizeof types[0]; i++)
		if (strlen(types[i].type) == type_len && memcmp(types[i].type, text, type_len) == 0)
			break;
	if (!type_len || i == sizeof types / sizeof types[0])
		return err_set(e, ERR_INVALID, "expected an SSH public key of type %s, %s or %s", SSHWIRE_ED25519,
			       SSHWIRE_ECDSA, SSHWIRE_RSA);
	const char *b64 = text + type_len + (text[type_len] == ' ');
	for (const char *c = b64; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return err_set(e, ERR_INVALID, "the SSH public key has a control character; expected one line");
	size_t b64_len = strcspn(b64, " ");
	uint8_t blob[SSHCERT_KEY_TEXT];
	if (!b64_len || b64_len + type_len + 2 > SSHCERT_KEY_TEXT ||
	    text_b64_decode(b64, b64_len, blob, sizeof blob, &len))
		return err_set(e, ERR_INVALID, "the SSH public key is not \"type base64 [comment]\"");
	struct sshwire_reader r = { .at = blob, .left = len };
	if (!sshwire_string_is(&r, types[i].type) || !types[i].check(&r) || r.bad || r.left)
		return err_set(e, ERR_INVALID, "the SSH public key is not a valid %s key%s", types[i].type,
			       types[i].check == check_rsa ? " of 2048 to 4096 bits" : "");
	buf_init(out, SSHCERT_KEY_TEXT);
	if (buf_add(out, blob, len))
		return err_set(e, ERR_NOMEM, "out of memory");
	*out_type = types[i].type;
	return 0;
}

int sshwire_ed25519_blob(const uint8_t public_key[32], struct buf *to)
{
	int rc = sshwire_add_text(to, SSHWIRE_ED25519);
	return rc ? rc : sshwire_add(to, public_key, 32);
}

int sshwire_ed25519_sign(EVP_PKEY *key, const uint8_t *data, size_t len, struct buf *to)
{
	uint8_t sig[64];
	size_t sig_len = sizeof sig;
	struct buf blob = BUF_INIT(256);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int bad = !ctx || EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) != 1 ||
		  EVP_DigestSign(ctx, sig, &sig_len, data, len) != 1 || sig_len != sizeof sig;
	if (!bad)
		bad = sshwire_add_text(&blob, SSHWIRE_ED25519) | sshwire_add(&blob, sig, sig_len) |
		      sshwire_add(to, buf_data(&blob), blob.len);
	EVP_MD_CTX_free(ctx);
	buf_free(&blob);
	return bad;
}
