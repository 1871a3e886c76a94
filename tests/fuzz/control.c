/* What a hostile agent says on its control connection. The input is a script of lines; the first letter says what the
 * rest of one is:
 *   w n x  a message of web-1's agent: on its connection, on a newer one, on one whose key is web-1's no more
 *   c      its connection is closed        ! the store is away        + it is back
 * with ' for " and what service_fill puts in. Whatever it says, nothing becomes of another target's session, of its
 * connection and its audit records; who has not the target's key is never let in. */
#include "fuzz.h"
#include "service.h"

#include <stdlib.h>
#include <string.h>

#define LINES_MAX 40u
#define NEWER 9
#define FOREIGN 10

struct talk {
	struct service s;
	bool was_away;
};

static void check_connections(const struct talk *t)
{
	static const wsconn_id all[] = { SERVICE_WEB, NEWER, FOREIGN };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		unsigned code = fake_ws_closed(all[i]);
		FUZZ_CHECK(code == 0 || code == 4001 || code == 4008 || code == 4403 || (code == 4503 && t->was_away));
	}
	FUZZ_CHECK(fake_ws_count(FOREIGN, "welcome") == 0);
	FUZZ_CHECK(fake_ws_count(FOREIGN, "ack") == 0);
	FUZZ_CHECK(fake_ws_closed(SERVICE_DB) == 0);
}

static void hear(struct talk *t, wsconn_id conn, EVP_PKEY *key, const char *rest)
{
	if (fake_ws_closed(conn)) /* its transport gives nothing on any more */
		return;
	char *message = service_fill(&t->s, rest);
	say_by(t->s.w, key, "web-1", conn, message);
	free(message);
	/* Before its hello it may ask for the time, and no more. */
	FUZZ_CHECK(fake_ws_count(conn, "welcome") || fake_ws_count(conn, "clock") || fake_ws_closed(conn));
}

static void take_line(struct talk *t, const char *line)
{
	switch (line[0]) {
	case 'w':
		hear(t, SERVICE_WEB, t->s.w->identity, line + 1);
		break;
	case 'n':
		hear(t, NEWER, t->s.w->identity, line + 1);
		break;
	case 'x':
		hear(t, FOREIGN, t->s.w->link, line + 1);
		break;
	case 'c':
		control_on_closed_blocking(&t->s.w->server, SERVICE_WEB, "web-1", "gone");
		break;
	case '!':
		fake_store_away();
		t->was_away = true;
		break;
	case '+':
		fake_store_heal();
		break;
	default:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct talk t = { .was_away = false };
	service_up(&t.s);
	json_t *before = record_of(t.s.w, t.s.db_session);
	size_t audited_before = service_check_audit(&t.s, t.s.db_session);
	FUZZ_CHECK(before);
	for (size_t i = 0; i < LINES_MAX && in.left; i++) {
		char *line = fuzz_part(&in, '\n');
		take_line(&t, line);
		check_connections(&t);
		free(line);
	}
	fake_store_heal();
	json_t *after = record_of(t.s.w, t.s.db_session);
	FUZZ_CHECK(after && json_equal(before, after) && fake_relay_ended(t.s.db_session) == 0);
	FUZZ_CHECK(service_check_audit(&t.s, t.s.db_session) == audited_before);
	json_decref(before);
	json_decref(after);
	service_down(&t.s);
	return 0;
}
