/* Credentials that were refused, and who has to wait before the next one is looked at. Counted are refusals alone, for
 * an origin (origin.h) and for the pair of an origin and the credential that it claims to hold. A wait is said before
 * anything is compared, so a guess that has to wait learns nothing, whether it is right or not. Nobody is shut out by
 * somebody elsewhere:
 *  - A credential has no limit of its own, over all origins: that would let anybody lock its holder out. Each origin
 * has its own.
 *  - Who was right from an origin within a day is not held up there by what others do wrong, only by refusals of the
 *    same credential.
 *  - Origins that stand for many people (a proxy, a balancer) are named in limits.except.
 * All of it is this node's own and in memory of a fixed size; when that is full, a row chosen at random makes room, and
 * one that remembers who was right last of all. Any thread unless it says blocking. */
#ifndef SERVER_GUESSES_H
#define SERVER_GUESSES_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct server;
struct settings;
struct guesses;

/* Each kind is counted by itself: machines that were deregistered and come back all the time hold up no person. */
enum guess_kind { GUESS_IDENTITY, GUESS_SESSION, GUESS_AGENT, GUESS_ENROLLMENT };
struct guess {
	enum guess_kind kind;
	bool secret;            /* credential is, or holds, a secret: it is written nowhere */
	const char *address;    /* of who makes it */
	const char *credential; /* a key id, a session, a target: what it claims to be; NULL: nothing */
};

int guesses_new(const struct settings *s, struct guesses **out_guesses, struct err *e);
void guesses_free(struct guesses **guesses);
/* The limits of fresh are in force; on failure those of before. */
int guesses_reload(struct guesses *g, const struct settings *fresh, struct err *e);
/* Does anything count here at all? guesses may be NULL, as in all that follows: nothing counts. */
bool guesses_count(struct guesses *g, const char *address);

/* 0: look at it. Else milliseconds after which to come again, at now_mono_ms; counted as a caller who was held up. */
int64_t guesses_wait_ms(struct guesses *g, const struct guess *who, int64_t now_mono_ms);
void guesses_right(struct guesses *g, const struct guess *who, int64_t now_mono_ms);

enum guess_limit { GUESS_NO_LIMIT, GUESS_LIMIT_CREDENTIAL, GUESS_LIMIT_ADDRESS };
/* Which limit that reached, where it is to be told: at most every ten minutes for each, and a few a minute in all. */
enum guess_limit guesses_wrong(struct guesses *g, const struct guess *who, int64_t now_mono_ms);

/* The same for services: seconds, with what is to be counted in metrics; and what is to be told, in the log and in the
 * audit log ("auth.limited"). */
int64_t guess_wait_s(struct server *server, const struct guess *who);
void guess_right(struct server *server, const struct guess *who);
void guess_wrong_blocking(struct server *server, const struct guess *who);
/* "too many credentials …", for who has to wait. */
const char *guess_wait_text(int64_t wait_s, char *out, unsigned size);

#endif
