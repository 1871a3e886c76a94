/* Two links back to back in memory, and what the tests of lib/link do with them. */
#ifndef TESTS_LINK_WIRE_H
#define TESTS_LINK_WIRE_H

#include "link/link.h"

#include <openssl/ec.h>
#include <openssl/evp.h>

struct wire_keys {
	EVP_PKEY *key[2]; /* by enum link_role */
	unsigned char pin[2][32];
};
const struct wire_keys *wire_keys(void); /* made once a process */

struct wire {
	struct link *end[2]; /* by enum link_role */
	int64_t now;
};

/* config: limits of both ends; NULL: defaults. */
void wire_init(struct wire *w, const struct link_config *limits);
void wire_free(struct wire *w);
void wire_start(struct wire *w); /* a new epoch at both ends */
void wire_lost(struct wire *w);
/* Moves everything that both ends have to say, until neither has more. */
void wire_run(struct wire *w);
/* wire_init, wire_start, wire_run; both ends are up and their UP is taken. */
void wire_up(struct wire *w, const struct link_config *limits);

/* NULL, or what does not add up between a link's sums and its streams. */
const char *wire_check_books(const struct link *link);

/* The next event of an end, which must be of that type. */
struct link_event wire_expect(struct wire *w, enum link_role role, enum link_event_type type);
void wire_expect_none(struct wire *w, enum link_role role);
/* The client opens a TCP stream, the target accepts; events are taken. */
uint32_t wire_stream(struct wire *w);
void wire_write(struct wire *w, enum link_role role, uint32_t id, const char *text);
/* Consumes what is there, as text; static storage. */
const char *wire_read(struct wire *w, enum link_role role, uint32_t id);

#endif
