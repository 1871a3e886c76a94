/* Keys that the issuer publishes: fetched over TLS by a thread of their own, kept fresh, and looked for at once when a
 * token names one that is not known. What was fetched last stays in force while the issuer is away. */
#ifndef AUTH_JWT_FOLLOW_H
#define AUTH_JWT_FOLLOW_H

#include "keyset.h"

#include <stddef.h>
#include <stdint.h>

/* All texts NULL, or on the heap. */
struct follow_settings {
	char *jwks_url; /* NULL: found through issuer */
	char *issuer;
	char *ca_file;    /* NULL: the system's */
	char *cache_path; /* NULL: nothing is kept on disk */
	int64_t refresh_ms;
};
void follow_settings_clear(struct follow_settings *settings);

struct follow;

/* Puts what the cache file has into keys, which must outlive this, and soon fetches; does not wait for it. The
 * settings become its own on success. */
int follow_open(const struct tunnel_host *host, struct follow_settings *settings, struct keystore *keys,
		struct follow **out, char *err, size_t err_len);
/* Ends what it is at. */
void follow_close(struct follow **follow);
/* A token needs a key that is not known: waits for a fetch that is under way, or for one that is made now, if there was
 * none for this reason lately; at most wait_ms. Blocking, any thread. 1: there was one, whatever it brought. */
int follow_look(struct follow *follow, int64_t wait_ms);
/* Why the last fetch failed; 0: it did not. */
int follow_failed(struct follow *follow, char *why, size_t size);

#endif
