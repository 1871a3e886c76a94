/* What the tests of auth-jwt share: an open instance, a token sent to it, what it must say. */
#ifndef TESTS_UNIT_PLUGINS_JWT_CASE_H
#define TESTS_UNIT_PLUGINS_JWT_CASE_H

#include "support/case.h"

#include "jwt_make.h"
#include "support/fake_host.h"

#define NOW_S 1700000000
#define ISS "https://id.example"
#define AUD "tunnel"
#define HEADER(alg) "{\"alg\":\"" alg "\",\"typ\":\"JWT\"}"
/* More members may follow. */
#define CLAIMS "\"iss\":\"" ISS "\",\"aud\":\"" AUD "\",\"sub\":\"alice\",\"exp\":1700000600"

#define NO_EXP "\"iss\":\"" ISS "\",\"aud\":\"" AUD "\",\"sub\":\"alice\""
#define NO_AUD "\"iss\":\"" ISS "\",\"sub\":\"alice\",\"exp\":1700000600"
#define NO_SUB "\"iss\":\"" ISS "\",\"aud\":\"" AUD "\",\"exp\":1700000600"
#define NO_ISS "\"aud\":\"" AUD "\",\"sub\":\"alice\",\"exp\":1700000600"

struct fixture {
	char folder[64];
	struct fake_plugin p;
	EVP_PKEY *key; /* P-256, in folder/key.pem */
	char spec[128];
};

/* The plugin loaded, its clock at NOW_S, a key in the folder; not opened. */
void begin(struct fixture *f);
void open_with(struct fixture *f, const char *k1, const char *v1, const char *k2, const char *v2);
void begin_open(struct fixture *f); /* with that key */
void end(struct fixture *f);
int verify_header(struct fixture *f, const char *authorization, struct tunnel_identity *out, char *err);
int verify(struct fixture *f, const char *token, struct tunnel_identity *out);
/* Both take the token over. A refusal must not repeat the token or a part of it. */
void assert_denied(struct fixture *f, char *token, const char *why);
void assert_accepted(struct fixture *f, char *token);
char *es256(struct fixture *f, const char *claims); /* signed by f->key */

#endif
