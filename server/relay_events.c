#include "server/relay_events.h"

#include "base/limits.h"
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
		sessions_on_attached_blocking(v->server, v->session, v->role, v->text);
		break;
	case EVENT_DETACHED:
		sessions_on_detached_blocking(v->server, v->session, v->role, v->text);
		break;
	case EVENT_PAIRED:
		sessions_on_paired_blocking(v->server, v->session, v->epoch);
		break;
	case EVENT_BYE:
		sessions_on_client_bye_blocking(v->server, v->session);
		break;
	}
}

static void submit(struct server *server, enum kind kind, const char *session, enum leg_role role, const char *text,
		   uint64_t epoch)
{
	struct event *v = calloc(1, sizeof *v);
	if (!v)
		abort(); /* a lost event would leave a session's record wrong for good */
	v->server = server;
	v->kind = kind;
	v->role = role;
	v->epoch = epoch;
	snprintf(v->session, sizeof v->session, "%s", session);
	snprintf(v->text, sizeof v->text, "%s", text ? text : "");
	struct pool_job job = { .run_blocking = run, .done = free, .arg = v, .reactor = -1, .must = true };
	if (pool_submit_serial_anythread(server->pool, relay_events_key(session), &job) != 0)
		abort();
}

void relay_event_attached(struct server *server, const char *session, enum leg_role role, const char *remote_address)
{
	submit(server, EVENT_ATTACHED, session, role, remote_address, 0);
}

void relay_event_detached(struct server *server, const char *session, enum leg_role role, const char *why)
{
	submit(server, EVENT_DETACHED, session, role, why, 0);
}

void relay_event_paired(struct server *server, const char *session, uint64_t epoch)
{
	submit(server, EVENT_PAIRED, session, LEG_CLIENT, NULL, epoch);
}

void relay_event_bye(struct server *server, const char *session)
{
	submit(server, EVENT_BYE, session, LEG_CLIENT, NULL, 0);
}
