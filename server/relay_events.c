#include "server/relay_events.h"

#include "base/certain.h"
#include "base/limits.h"
#include "base/text.h"
#include "server/pool.h"
#include "server/server.h"
#include "server/sessions.h"

#include <stdio.h>
#include <stdlib.h>

enum kind { EVENT_ATTACHED, EVENT_DETACHED, EVENT_PAIRED, EVENT_BYE };

struct event {
	struct server *server;
	enum kind kind;
	enum leg_role role;
	uint64_t epoch;
	int64_t generation;
	char session[LIMIT_ID + 1];
	char text[128];
};

uint64_t relay_events_key(const char *session)
{
	uint64_t h = 14695981039346656037u;
	for (; *session; session++)
		h = (h ^ (unsigned char)*session) * 1099511628211u;
	return h;
}

static void run(void *arg)
{
	struct event *v = arg;
	switch (v->kind) {
	case EVENT_ATTACHED:
		sessions_on_attached_blocking(v->server, v->session, v->role, v->generation, v->text);
		break;
	case EVENT_DETACHED:
		sessions_on_detached_blocking(v->server, v->session, v->role, v->text);
		break;
	case EVENT_PAIRED:
		sessions_on_paired_blocking(v->server, v->session, v->generation, v->epoch);
		break;
	case EVENT_BYE:
		sessions_on_client_bye_blocking(v->server, v->session, v->generation);
		break;
	}
}

static void submit(const struct event *what, const char *session, const char *text)
{
	/* A lost event would leave a session's record wrong for good. */
	struct event *v = certain_malloc(sizeof *v);
	*v = *what;
	snprintf(v->session, sizeof v->session, "%s", session);
	text_print(v->text, sizeof v->text, "%s", text ? text : "");
	struct pool_job job = {
		.run_blocking = run, .done = free, .arg = v, .reactor = -1, .lane = POOL_EVENTS, .must = true
	};
	if (pool_submit_serial_anythread(v->server->pool, relay_events_key(session), &job) != 0)
		abort();
}

void relay_event_attached(struct server *server, const char *session, enum leg_role role, int64_t generation,
			  const char *remote_address)
{
	const struct event v = { .server = server, .kind = EVENT_ATTACHED, .role = role, .generation = generation };
	submit(&v, session, remote_address);
}

void relay_event_detached(struct server *server, const char *session, enum leg_role role, const char *why)
{
	const struct event v = { .server = server, .kind = EVENT_DETACHED, .role = role };
	submit(&v, session, why);
}

void relay_event_paired(struct server *server, const char *session, int64_t generation, uint64_t epoch)
{
	const struct event v = { .server = server, .kind = EVENT_PAIRED, .generation = generation, .epoch = epoch };
	submit(&v, session, NULL);
}

void relay_event_bye(struct server *server, const char *session, int64_t generation)
{
	const struct event v = { .server = server, .kind = EVENT_BYE, .generation = generation };
	submit(&v, session, NULL);
}
