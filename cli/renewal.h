/* When to renew a session that ends with its credential. Sans-I/O: wall-clock times in and out, since the end is one.
 */
#ifndef CLI_RENEWAL_H
#define CLI_RENEWAL_H

#include <stdbool.h>
#include <stdint.h>

struct renewal {
	int64_t end_ms;  /* of the session, as it stands; 0: nothing is to be renewed */
	int64_t lead_ms; /* so long before its end the first attempt is made */
	int64_t due_ms;  /* the next attempt */
};

void renewal_begin(struct renewal *r, int64_t end_ms, int64_t wall_ms);
/* The server says that the end is near, whatever this clock says: now. */
void renewal_hurry(struct renewal *r, int64_t wall_ms);
/* An attempt brought nothing. */
void renewal_failed(struct renewal *r, int64_t wall_ms);
/* How long until the clock is to be looked at again, 0: an attempt is due; -1: never. */
int64_t renewal_wait_ms(const struct renewal *r, int64_t wall_ms);
/* The end is so near that somebody should know. */
bool renewal_is_urgent(const struct renewal *r, int64_t wall_ms);

#endif
