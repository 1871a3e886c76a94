/* What a port-forward session carries, as people write it, and what the session must be allowed for it. */
#ifndef CLI_FORWARD_H
#define CLI_FORWARD_H

#include "base/err.h"
#include "base/limits.h"
#include "cli/args.h"

#include <stdbool.h>
#include <stdint.h>

enum forward_way {
	FORWARD_LOCAL,   /* [BIND:]PORT:HOST:PORT: connections of a local port go to one endpoint of the target's; /PATH
			  * of a unix socket may stand on either side */
	FORWARD_SOCKS,   /* [BIND:]PORT: each to where it asks for */
	FORWARD_REVERSE, /* [BIND:]PORT:HOST:PORT: connections of a port of the target's come to one endpoint of ours,
			  * or to the /PATH of a unix socket */
};
#define FORWARD_WAYS 3

/* The texts of each way. */
struct forward_texts {
	struct arg_list at[FORWARD_WAYS];
};
size_t forward_count(const struct forward_texts *texts);

struct forward_place {
	char path[LIMIT_SOCKET_PATH + 1]; /* of a unix socket; "": host and port */
	char host[LIMIT_LINK_HOST + 1];   /* without brackets */
	uint16_t port;
};

struct forward_spec {
	enum forward_way way;
	struct forward_place from, to; /* from: where it listens, with FORWARD_REVERSE an IP address; a port of 0 is any
					* that is free. to: "" and 0 with FORWARD_SOCKS */
};

#define FORWARD_TEXT (2 * LIMIT_LINK_HOST + 32)
#define FORWARD_ENTRY (LIMIT_LINK_HOST + 16)

const char *forward_option(enum forward_way way); /* "--port-forward" */
/* ERR_INVALID names option and text. */
int forward_parse(enum forward_way way, const char *text, struct forward_spec *out, struct err *e);
void forward_text(const struct forward_spec *spec, char out[FORWARD_TEXT]); /* parsed again it is the same */
void forward_place_text(const struct forward_place *place, char out[FORWARD_ENTRY]);
bool forward_is_loopback(const struct forward_place *place); /* of FORWARD_REVERSE's from */
/* The entry of StartSession's allow that it needs. */
void forward_allow(const struct forward_spec *spec, char out[FORWARD_ENTRY]);

#endif
