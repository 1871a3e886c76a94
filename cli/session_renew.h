/* A running session that ends with its credential is renewed in time, by itself. Loop's thread. */
#ifndef CLI_SESSION_RENEW_H
#define CLI_SESSION_RENEW_H

struct session;

/* Between the loop's start and its end. */
void session_renew_start(struct session *s);
void session_renew_hurry(struct session *s); /* the server says that the end is near */
void session_renew_stop(struct session *s);  /* closes what start opened; nothing is told any more */

#endif
