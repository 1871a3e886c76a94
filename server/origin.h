/* Where callers come from, as far as they are told apart: a v4 address, or the /64 that a v6 address is in, since one
 * machine has all of that to choose from. And the networks that a setting names. */
#ifndef SERVER_ORIGIN_H
#define SERVER_ORIGIN_H

#include "base/conf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct origin {
	uint8_t bytes[17]; /* the family, then the address with zeros behind what counts */
};
/* False: not an address. */
bool origin_of(const char *address, struct origin *out);

struct policy_net;
struct origins {
	struct policy_net *at; /* malloc'd */
	size_t n;
};
/* setting names them in the error: ERR_INVALID. The old ones in out are not freed. */
int origins_parse(const char *setting, const struct conf_strings *texts, struct origins *out, struct err *e);
bool origins_hold(const struct origins *o, const char *address);
void origins_free(struct origins *o);

#endif
