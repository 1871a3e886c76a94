/* Signatures that were used: one that changes something is good once. Remembered until its time is over by itself, in
 * this process alone. Bounded, for all and for each key id; when there is no room it says so, and the caller refuses.
 * Any thread. */
#ifndef AUTH_HMAC_USED_H
#define AUTH_HMAC_USED_H

#include <stddef.h>
#include <stdint.h>
#include <tunnel/plugin.h>

#define USED_MAX 262144u          /* signatures at once, of some 80 bytes each */
#define USED_SHARE (USED_MAX / 2) /* of one key id: over five minutes and one more, 360 a second */
#define USED_LONGER_MS 60000      /* behind its time: now_ms may be older than another caller's */

struct used;

enum used_result {
	USED_NEW,
	USED_BEFORE,
	USED_FULL /* or so is the share of that key id */
};

struct used *used_new(const struct tunnel_host *host, size_t max, size_t share); /* NULL: no memory */
void used_free(struct used **used);
/* USED_NEW remembers the signature up to and with until_ms, and USED_LONGER_MS. */
enum used_result used_take(struct used *used, const char *key_id, const unsigned char signature[32], int64_t until_ms,
			   int64_t now_ms);

#endif
