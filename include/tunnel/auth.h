/* Auth providers: who is calling, and (if they wish) may they. Read plugin.h first. */
#ifndef TUNNEL_AUTH_H
#define TUNNEL_AUTH_H

#include <tunnel/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TUNNEL_SUBJECT_MAX 256 /* bytes with NUL */
#define TUNNEL_CREDENTIAL_MAX 256
#define TUNNEL_GROUPS_MAX 4096
#define TUNNEL_CLAIMS_MAX 16384

struct tunnel_header {
	const char *name; /* lower case */
	/* Without surrounding blanks. A header that HTTP itself does not define and that is repeated may come once,
	 * with its first value: build nothing on a repetition. */
	const char *value;
};

/* The HTTP request that carries the credential. */
struct tunnel_auth_request {
	size_t size;
	const char *method; /* "POST" */
	/* Percent-encoded, in one spelling however it was sent: RFC 3986 unreserved characters plain, hex digits upper
	 * case. query is without "?"; "" when there is none. */
	const char *path, *query;
	const struct tunnel_header *headers;
	size_t header_count;
	const unsigned char *body; /* the whole body; may be NULL when body_len is 0 */
	size_t body_len;
	const unsigned char *body_sha256; /* 32 bytes */
	const char *remote_address;       /* "192.0.2.7" or "2001:db8::7" */
	const char *tls_peer; /* subject of the client's TLS certificate; NULL: none was asked for (always, in 1.0) */
};

/* Filled by verify. The host gives it zeroed, with size set; write only members inside size. */
struct tunnel_identity {
	size_t size;
	char subject[TUNNEL_SUBJECT_MAX];       /* who; not empty, no control characters. Unique within the provider */
	char credential[TUNNEL_CREDENTIAL_MAX]; /* which credential of theirs (key id, token's jti): what a revocation
						   names; no control characters; "" means none */
	char groups[TUNNEL_GROUPS_MAX];         /* JSON array of strings; "" means none */
	char claims[TUNNEL_CLAIMS_MAX];         /* JSON object for policy conditions; "" means {} */
	int64_t expires_ms;                     /* Unix ms from which it is refused; 0: it has no end */
};

struct tunnel_auth_ops {
	size_t size;
	/* TUNNEL_OK and *out; TUNNEL_NOT_MINE when the request carries no credential of this kind; TUNNEL_DENIED when
	 * it carries one that is wrong (call->err says why, in words for the caller's eyes); negative when it could not
	 * be found out. */
	int (*verify)(void *instance, const struct tunnel_call *call, const struct tunnel_auth_request *request,
		      struct tunnel_identity *out);
	/* Optional say beside the policies. TUNNEL_OK: I allow it (a policy's Deny still wins). TUNNEL_DENIED: veto.
	 * TUNNEL_NOT_MINE: no opinion. Negative refuses. context is a JSON object of condition keys. Asked about
	 * callers whom this provider has named, and about their sessions that run: then identity is what it was when
	 * the session started or was renewed last, and expires_ms may have passed. May be NULL. */
	int (*authorize)(void *instance, const struct tunnel_call *call, const struct tunnel_identity *identity,
			 const char *action, const char *resource, const char *context);
	/* Since 1.2. Which credential does the request claim to carry? Read from it, and not checked: TUNNEL_OK and its
	 * id, as verify would have it in identity.credential, at out (size bytes with NUL, at least
	 * TUNNEL_CREDENTIAL_MAX); else TUNNEL_NOT_MINE. The host calls it before verify and counts refusals by the
	 * answer, so that who guesses at one credential holds up that one alone. It looks at no secret, waits for
	 * nothing, and answers the same whether or not there is such a credential. TUNNEL_NOT_MINE also for what verify
	 * refuses without a look at a secret, such as another time: that is no guess at this credential, and is not to
	 * hold up others who have it. May be NULL: then the Authorization header as a whole is what is counted by,
	 * which is right for tokens. A credential that stands elsewhere in the request needs it: without, refusals
	 * count for the address alone, and who is right there waits for the guesses of others. */
	int (*claim)(void *instance, const struct tunnel_call *call, const struct tunnel_auth_request *request,
		     char *out, size_t size);
};

#ifdef __cplusplus
}
#endif
#endif
