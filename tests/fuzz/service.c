#include "service.h"

#include "fuzz.h"

#include "base/audit_chain.h"
#include "base/buf.h"
#include "server/audit.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>

#define TEXT_MAX (1024u * 1024)
#define RECORDS_MAX 1000u

/* ---- time: who waits for an agent or for the store waits in vain here, and need not do so by the clock. The linker
 * puts these in the place of what they are named after. ---- */

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms);
int64_t __real_clock_mono_ms(void);
int64_t __wrap_clock_mono_ms(void);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until);

static int64_t waited_ms;

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	FUZZ_CHECK(!fds && n == 0 && timeout_ms > 0);
	waited_ms += timeout_ms;
	return 0;
}

int64_t __wrap_clock_mono_ms(void)
{
	return __real_clock_mono_ms() + waited_ms;
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until)
{
	(void)cond, (void)lock, (void)until;
	return ETIMEDOUT;
}

/* ---- the server ---- */

static void start(struct world *w, const char *target, char out_session[65], char out_token[64])
{
	struct answer a = start_tcp(w, target, "'127.0.0.1:5432','db:1'");
	snprintf(out_session, 65, "%s", text_at(a.json, "session.id"));
	if (out_token)
		snprintf(out_token, 64, "%s", text_at(a.json, "token"));
	answer_free(&a);
}

void service_up(struct service *s)
{
	static struct world *w; /* its keys, which take longest */
	if (!w)
		w = world_up();
	s->w = w;
	enrol(w, "web-1", "'role':'web'");
	enrol(w, "db-1", "'role':'db'");
	hello(w, "web-1", SERVICE_WEB, "");
	hello(w, "db-1", SERVICE_DB, "");
	start(w, "web-1", s->web_session, s->web_token);
	start(w, "db-1", s->db_session, NULL);
}

void service_down(struct service *s)
{
	world_renew(s->w);
}

char *service_fill(const struct service *s, const char *text)
{
	const struct {
		char letter;
		const char *value;
	} fills[] = { { 'S', s->web_session },   { 'D', s->db_session }, { 'T', s->web_token },
		      { 'K', s->w->client_key }, { 'H', s->w->ssh_key }, { '@', "@" } };
	struct buf out = BUF_INIT(TEXT_MAX);
	for (; *text; text++) {
		const char *value = NULL;
		for (size_t i = 0; *text == '@' && i < sizeof fills / sizeof *fills; i++)
			if (fills[i].letter == text[1])
				value = fills[i].value;
		if (value)
			buf_add_text(&out, value);
		else
			buf_add_u8(&out, (uint8_t)*text);
		text += value != NULL;
	}
	char *filled = buf_take_text(&out);
	FUZZ_CHECK(filled);
	return filled;
}

size_t service_check_audit(const struct service *s, const char *session)
{
	struct audit_check chain;
	struct err e;
	json_t *records = NULL;
	uint64_t next = 0;
	size_t n = 0;
	audit_check_init(&chain);
	FUZZ_CHECK(audit_read_blocking(s->w->server.audit, 1, RECORDS_MAX, &records, &next, &e) == 0);
	FUZZ_CHECK(audit_check_records(&chain, records, &e) == 0);
	for (size_t i = 0; i < json_array_size(records); i++)
		n += strcmp(text_at(json_array_get(records, i), "session"), session) == 0;
	audit_check_free(&chain);
	json_decref(records);
	return n;
}
