/* For targets that drive the server's services: a whole server without sockets (tests/unit/server/services/world.h),
 * with two targets that are connected, web-1 on connection 7 and db-1 on 8, and a session of alice's with each. She may
 * do everything; nobody else may do anything. */
#ifndef TESTS_FUZZ_SERVICE_H
#define TESTS_FUZZ_SERVICE_H

#include "unit/server/services/world.h"

#define SERVICE_WEB 7
#define SERVICE_DB 8

struct service {
	struct world *w;
	char web_session[65], db_session[65];
	char web_token[64];
};

/* The same for each input, but for what is random in it. service_down leaves nothing of it. */
void service_up(struct service *s);
void service_down(struct service *s);

/* The text with what the input cannot know: @S and @D the sessions with web-1 and db-1, @T the token of the first, @K
 * the client's key, @H a host key, @@ an @. malloc'd. */
char *service_fill(const struct service *s, const char *text);

/* The audit log is a whole chain. How many of its records name the session. */
size_t service_check_audit(const struct service *s, const char *session);

#endif
