/* The entries of a session's allow (PROTOCOL.md, StartSession): "host:port", "*" for every host and port, "unix:/path"
 * of a socket, or "listen:address:port" for where the target listens (port 0: anywhere). Only one
 * spelling of an address is taken, so that a policy that names "127.0.0.1" or "db.internal" cannot be walked around
 * with "127.1", "::ffff:127.0.0.1" or "DB.internal.". */
#ifndef SERVER_ENDPOINT_TEXT_H
#define SERVER_ENDPOINT_TEXT_H

#include "base/err.h"
#include "base/limits.h"

#include <jansson.h>
#include <stdint.h>

/* 0, or ERR_INVALID with what is wrong and, where there is one, the spelling that is taken. */
int endpoint_text_check(const char *text, struct err *e);

enum endpoint_kind {
	ENDPOINT_TCP,
	ENDPOINT_ANY, /* every host and port */
	ENDPOINT_UNIX,
	ENDPOINT_LISTEN,
};

struct endpoint_parts {
	enum endpoint_kind kind;
	char host[LIMIT_LINK_HOST + 1]; /* ENDPOINT_TCP and _LISTEN, as is port */
	uint16_t port;
	const char *path; /* ENDPOINT_UNIX: inside the text */
};

/* Whether the agent of a target (its document) knows all kinds of a session's allow. 0, or ERR_INVALID: it is too old.
 */
int endpoint_text_check_agent(const json_t *target_doc, const json_t *allow, struct err *e);

/* Takes apart what was checked when it was asked for. ERR_INVALID. */
int endpoint_text_read(const char *text, struct endpoint_parts *out, struct err *e);

#endif
