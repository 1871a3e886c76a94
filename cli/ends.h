/* How sessions end, as exit codes and sentences: one row for each end that PROTOCOL.md knows. */
#ifndef CLI_ENDS_H
#define CLI_ENDS_H

#include "endpoint/endpoint.h"

#include <stdbool.h>

struct session_ending {
	int exit_code;
	bool gone;        /* nobody can come back to the session */
	const char *text; /* why, in words */
	const char *next; /* what to do about it; NULL: nothing */
};

/* out->text is the server's reason where there is one; it may point into end. resumable: a new client can come back to
 * what this one did. */
void ending_of_endpoint(const struct endpoint_end *end, bool resumable, struct session_ending *out);
/* Of a stream that is all there is to its session. What broke at either end was refused by nobody. */
int exit_of_stream(unsigned link_code);
/* The "end" of a session record. reason may be NULL. */
void ending_of_record(unsigned code, const char *reason, struct session_ending *out);

#endif
