/* Ed25519 keys in OpenSSH's own private key format (PROTOCOL.key), without encryption: the file's mode guards them. */
#include "ident/sshcert.h"

#include "base/secret.h"
#include "ident/sshwire.h"

#include <openssl/crypto.h>
#include <string.h>

#define MAGIC "openssh-key-v1" /* with its NUL */
#define PEM_BEGIN "-----BEGIN OPENSSH PRIVATE KEY-----"
#define PEM_END "-----END OPENSSH PRIVATE KEY-----"
#define KEY_FILE_MAX 4096u
#define COMMENT_MAX (KEY_FILE_MAX - 512) /* bytes: all else in such a file takes less than that */
#define RAW 32

EVP_PKEY *sshkey_generate(struct err *e)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	if (!key)
		err_set_openssl(e, ERR_NOMEM, "cannot generate an Ed25519 key");
	return key;
}

static int raw_public(EVP_PKEY *key, uint8_t out[RAW], struct err *e)
{
	size_t len = RAW;
	if (!key || !EVP_PKEY_is_a(key, "ED25519") || EVP_PKEY_get_raw_public_key(key, out, &len) != 1 || len != RAW)
		return err_set(e, ERR_INVALID, "the key is not an Ed25519 key");
	return 0;
}

/* The part that would be encrypted: two equal check words, the key, its comment, padding 1 2 3 … to 8 bytes. */
static int add_private_section(struct buf *to, const uint8_t pub[RAW], const uint8_t seed[RAW], const char *comment)
{
	struct buf b = BUF_INIT(KEY_FILE_MAX);
	uint8_t both[2 * RAW];
	uint32_t check;
	memcpy(both, seed, RAW);
	memcpy(both + RAW, pub, RAW);
	secret_random(&check, sizeof check);
	buf_reserve(&b, 512); /* growing later would leave copies of the secret in freed memory */
	int bad = buf_add_u32(&b, check) | buf_add_u32(&b, check) | sshwire_add_text(&b, SSHWIRE_ED25519) |
		  sshwire_add(&b, pub, RAW) | sshwire_add(&b, both, sizeof both) | sshwire_add_text(&b, comment);
	for (uint8_t pad = 1; !bad && b.len % 8; pad++)
		bad |= buf_add_u8(&b, pad);
	bad |= sshwire_add(to, buf_data(&b), b.len);
	secret_wipe(both, sizeof both);
	buf_wipe_free(&b);
	return bad;
}

static int add_pem(struct buf *pem, const struct buf *raw)
{
	char text[TEXT_B64_SIZE(KEY_FILE_MAX)];
	size_t len = text_b64(buf_data(raw), raw->len, text, sizeof text);
	int bad = buf_add_text(pem, PEM_BEGIN "\n");
	for (size_t at = 0; at < len; at += 70) {
		bad |= buf_add(pem, text + at, len - at < 70 ? len - at : 70);
		bad |= buf_add_u8(pem, '\n');
	}
	secret_wipe(text, sizeof text);
	return bad | buf_add_text(pem, PEM_END "\n");
}

int sshkey_text(EVP_PKEY *key, const char *comment, struct buf *out, struct err *e)
{
	uint8_t pub[RAW], seed[RAW];
	size_t seed_len = sizeof seed;
	if (comment && strlen(comment) > COMMENT_MAX)
		return err_set(e, ERR_LIMIT, "the key's comment is too long");
	int rc = raw_public(key, pub, e);
	if (rc)
		return rc;
	if (EVP_PKEY_get_raw_private_key(key, seed, &seed_len) != 1 || seed_len != RAW)
		return err_set(e, ERR_INVALID, "the key has no private part");
	struct buf raw = BUF_INIT(KEY_FILE_MAX), blob = BUF_INIT(256), pem = BUF_INIT(2 * KEY_FILE_MAX);
	buf_reserve(&raw, KEY_FILE_MAX);
	buf_reserve(&pem, 2 * KEY_FILE_MAX);
	int bad = buf_add(&raw, MAGIC, sizeof MAGIC) | sshwire_add_text(&raw, "none") | sshwire_add_text(&raw, "none") |
		  sshwire_add_text(&raw, "") | buf_add_u32(&raw, 1) | sshwire_ed25519_blob(pub, &blob) |
		  sshwire_add(&raw, buf_data(&blob), blob.len);
	bad |= add_private_section(&raw, pub, seed, comment ? comment : "");
	if (!bad)
		bad = add_pem(&pem, &raw);
	secret_wipe(seed, sizeof seed);
	buf_wipe_free(&raw);
	buf_free(&blob);
	if (bad) {
		buf_wipe_free(&pem);
		return err_set(e, ERR_NOMEM, "out of memory");
	}
	*out = pem;
	return 0;
}

int sshkey_save(const char *path, EVP_PKEY *key, const char *comment, struct err *e)
{
	struct buf pem;
	int rc = sshkey_text(key, comment, &pem, e);
	if (rc)
		return err_wrap(e, "%s", path);
	rc = secret_write_file(path, buf_data(&pem), pem.len, e);
	buf_wipe_free(&pem);
	return rc;
}

/* Base64 between the two marker lines, newlines dropped. */
static int unpem(const struct buf *pem, uint8_t out[KEY_FILE_MAX], size_t *out_len)
{
	char text[TEXT_B64_SIZE(KEY_FILE_MAX)];
	size_t n = 0;
	const char *at = (const char *)buf_data(pem), *end = at + pem->len;
	const char *begin = memmem(at, pem->len, PEM_BEGIN, strlen(PEM_BEGIN));
	if (!begin)
		return -1;
	begin += strlen(PEM_BEGIN);
	const char *stop = memmem(begin, (size_t)(end - begin), PEM_END, strlen(PEM_END));
	int rc = stop ? 0 : -1;
	for (const char *c = begin; !rc && c < stop; c++)
		if (*c != '\n' && *c != '\r') {
			if (n == sizeof text)
				rc = -1;
			else
				text[n++] = *c;
		}
	if (!rc)
		rc = text_b64_decode(text, n, out, KEY_FILE_MAX, out_len);
	secret_wipe(text, sizeof text);
	return rc;
}

static int parse_private(const uint8_t *raw, size_t len, EVP_PKEY **out_key, struct err *e)
{
	if (len < sizeof MAGIC || memcmp(raw, MAGIC, sizeof MAGIC) != 0)
		return err_set(e, ERR_INVALID, "not an openssh-key-v1 file");
	struct sshwire_reader r = { .at = raw + sizeof MAGIC, .left = len - sizeof MAGIC };
	size_t n, pub_len, both_len;
	bool plain = sshwire_string_is(&r, "none") && sshwire_string_is(&r, "none");
	if (!plain)
		return err_set(e, ERR_INVALID, "the key is encrypted; expected one without a passphrase");
	sshwire_string(&r, &n);
	uint32_t keys = sshwire_u32(&r);
	sshwire_string(&r, &n);
	const uint8_t *section = sshwire_string(&r, &n);
	struct sshwire_reader s = { .at = section, .left = n, .bad = r.bad || keys != 1 };
	uint32_t check = sshwire_u32(&s), again = sshwire_u32(&s);
	if (!sshwire_string_is(&s, SSHWIRE_ED25519))
		return err_set(e, ERR_INVALID, "expected one Ed25519 key");
	const uint8_t *pub = sshwire_string(&s, &pub_len), *both = sshwire_string(&s, &both_len);
	if (s.bad || check != again || pub_len != RAW || both_len != 2 * RAW || memcmp(both + RAW, pub, RAW) != 0)
		return err_set(e, ERR_INVALID, "the key file is damaged");
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, both, RAW);
	uint8_t derived[RAW];
	int rc = key ? raw_public(key, derived, e) : err_set_openssl(e, ERR_NOMEM, "key");
	if (!rc && memcmp(derived, pub, RAW) != 0)
		rc = err_set(e, ERR_INVALID, "its public part does not belong to its private part");
	if (rc)
		EVP_PKEY_free(key);
	else
		*out_key = key;
	return rc;
}

int sshkey_load(const char *path, EVP_PKEY **out_key, struct err *e)
{
	struct buf pem;
	uint8_t raw[KEY_FILE_MAX];
	size_t len = 0;
	int rc = secret_read_file(path, &pem, e);
	if (rc)
		return rc;
	if (unpem(&pem, raw, &len))
		rc = err_set(e, ERR_INVALID, "not an OpenSSH private key file");
	else
		rc = parse_private(raw, len, out_key, e);
	if (rc)
		err_wrap(e, "%s", path);
	secret_wipe(raw, sizeof raw);
	buf_wipe_free(&pem);
	return rc;
}

static int blob_text(const char *type, const struct buf *blob, char out[SSHCERT_KEY_TEXT], struct err *e)
{
	size_t n = strlen(type);
	if (n + 1 + TEXT_B64_SIZE(blob->len) > SSHCERT_KEY_TEXT)
		return err_set(e, ERR_LIMIT, "the SSH public key is too long");
	memcpy(out, type, n);
	out[n++] = ' ';
	text_b64(buf_data(blob), blob->len, out + n, SSHCERT_KEY_TEXT - n);
	return 0;
}

int sshkey_public_text(EVP_PKEY *key, char out[SSHCERT_KEY_TEXT], struct err *e)
{
	uint8_t pub[RAW];
	struct buf blob = BUF_INIT(256);
	int rc = raw_public(key, pub, e);
	if (!rc && sshwire_ed25519_blob(pub, &blob))
		rc = err_set(e, ERR_NOMEM, "out of memory");
	if (!rc)
		rc = blob_text(SSHWIRE_ED25519, &blob, out, e);
	buf_free(&blob);
	return rc;
}

int sshkey_check_public(const char *text, char out[SSHCERT_KEY_TEXT], struct err *e)
{
	const char *type;
	struct buf blob;
	int rc = sshwire_public_blob(text, &type, &blob, e);
	if (rc)
		return rc;
	rc = blob_text(type, &blob, out, e);
	buf_free(&blob);
	return rc;
}

int sshkey_fingerprint(const char *public_text, char out[64], struct err *e)
{
	const char *type;
	struct buf blob;
	unsigned char sum[32];
	int rc = sshwire_public_blob(public_text, &type, &blob, e);
	if (rc)
		return rc;
	secret_sha256(buf_data(&blob), blob.len, sum);
	strcpy(out, "SHA256:");
	text_b64(sum, sizeof sum, out + 7, 64 - 7);
	out[strcspn(out, "=")] = '\0'; /* ssh-keygen prints it without padding */
	buf_free(&blob);
	return 0;
}
