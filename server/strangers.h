/* Connections that have shown no good credential yet: from the accept on, through TLS handshake, requests and refusals,
 * until an answer or a judgement says who it is. They are cheap, but there are only so many descriptors, so their
 * number is bounded: in all, and for each origin (origin.h) as well. An origin may at most have a sixteenth of what is
 * free, so that the more there are, the less each gets, and one that comes new finds room while there are not about a
 * hundred origins at it. Known connections are not counted, and never closed for this. Any thread. */
#ifndef SERVER_STRANGERS_H
#define SERVER_STRANGERS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct metrics;
struct settings;
struct strangers;

int strangers_new(const struct settings *s, struct metrics *metrics, struct strangers **out_strangers, struct err *e);
void strangers_free(struct strangers **strangers);
/* Those that are here stay, however many. On failure the limits of before are in force. */
int strangers_reload(struct strangers *s, const struct settings *fresh, struct err *e);
/* May one more come from this address? Then *out_place is its place, 0 where nobody counts. s may be NULL: anybody may.
 * A refusal is counted, and told once a while. */
bool strangers_enter(struct strangers *s, const char *address, uint64_t *out_place);
/* Gives the place back and makes it 0; 0 is none. */
void strangers_leave(struct strangers *s, uint64_t *place);
size_t strangers_count(struct strangers *s);

#endif
