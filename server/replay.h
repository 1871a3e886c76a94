/* Remembers the ids of one-time proofs until they expire by themselves. Bounded, for all and for each who proves: when
 * it is full of unexpired ones it says so, and the caller refuses. Any thread. */
#ifndef SERVER_REPLAY_H
#define SERVER_REPLAY_H

#include <stddef.h>
#include <stdint.h>

struct replay;

enum replay_result {
	REPLAY_NEW,
	REPLAY_SEEN,
	REPLAY_FULL /* or so is the share of that one */
};

struct replay *replay_new(size_t max, size_t share); /* share: ids of one who */
void replay_free(struct replay **r);
/* who: the key or name that the id is unique for. REPLAY_NEW remembers it until expires_ms. */
enum replay_result replay_check(struct replay *r, const void *who, size_t who_len, const char *jti, int64_t expires_ms,
				int64_t now_ms);

#endif
