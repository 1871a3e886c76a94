/* The worker is the target's end of one session. It has everything it needs from its job, so the supervisor may die, be
 * upgraded and come back: the worker listens on a Unix socket named after its session, and whoever connects there with
 * the right user id is the supervisor of now. */
#include "agent/worker.h"

#include "agent/channel.h"
#include "agent/exits.h"
#include "agent/job.h"
#include "agent/lease.h"
#include "agent/name.h"
#include "agent/privileges.h"
#include "agent/reports.h"
#include "agent/state.h"
#include "agent/streams.h"
#include "agent/worker_spawn.h"
#include "base/clock.h"
#include "base/heap.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/text.h"
#include "ident/key.h"
#include "net/acceptor.h"
#include "net/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define RESUMED_ELSEWHERE "the session was resumed by another client"
#define CLOSE_REPLACED 4001             /* PROTOCOL.md, section 3 */
#define FAREWELL_MS 5000                /* for the supervisor to acknowledge the last reports */
#define GIVE_UP_MS (24 * 3600 * 1000LL) /* of a server that did not say its detach grace */
#define GIVE_UP_MARGIN_MS 15000         /* behind the grace: the server decides sooner, if it can be reached */
#define EXPIRY_CHECK_MS 30000           /* the machine may sleep, and timers with it */

struct worker {
	uv_loop_t loop;
	struct job job;
	char name[WORKER_NAME];
	struct allow *allow;
	struct grant grant;
	struct reports *reports;
	struct streams *streams;
	struct endpoint *ep;
	struct net_tls *tls;
	struct channel *supervisor;
	struct acceptor listener;
	struct lease lease;
	uv_timer_t expiry, farewell;
	uv_signal_t child, term;
	bool over, superseded;
	bool no_logins;    /* since the session began without any, see privileges.h */
	unsigned end_code; /* set when the end was ordered from here: a close code of PROTOCOL.md, section 3 */
	char end_text[256];
};

/* --- the supervisor */

static void leave_if_done(struct worker *w)
{
	if (w->over && (reports_empty(w->reports) || !w->supervisor))
		uv_stop(&w->loop);
}

static void end_session(struct worker *w, unsigned close_code, unsigned link_code, const char *text)
{
	if (w->over || w->end_code)
		return;
	w->end_code = close_code;
	text_print(w->end_text, sizeof w->end_text, "%s", text);
	endpoint_end(w->ep, link_code, text);
}

static void on_grant(struct worker *w, const json_t *message)
{
	struct err e = { 0 };
	struct grant grant;
	if (grant_parse(json_object_get(message, "grant"), &grant, &e)) {
		/* A grant that cannot be understood allows nothing. */
		log_with(LOG_LEVEL_ERROR, FIELDS({ "session", w->job.offer.session }), "%s", e.text);
		end_session(w, 4010, LINK_INTERNAL, "the agent did not understand a new grant");
		return;
	}
	grant.ssh = grant.ssh && !w->no_logins;
	w->grant = grant;
	log_with(LOG_LEVEL_INFO, FIELDS({ "session", w->job.offer.session }), "new grant");
	streams_set_grant(w->streams, &grant);
	uv_timer_start(&w->expiry, w->expiry.timer_cb, 0, 0);
}

static void on_terminate(struct worker *w, const json_t *message)
{
	const char *text = json_string_value(json_object_get(message, "text"));
	json_int_t code = json_integer_value(json_object_get(message, "code"));
	unsigned close_code = code >= 1000 && code <= 4999 ? (unsigned)code : 4003;
	end_session(w, close_code,
		    close_code == 4000   ? LINK_OK
		    : close_code == 4004 ? LINK_EXPIRED
					 : LINK_TERMINATED,
		    text && *text ? text : "ended by the server");
}

static void on_settings(struct worker *w, json_t *settings)
{
	struct err e = { 0 };
	struct allow *allow = NULL;
	int rc = job_take_settings(&w->job, settings, &e);
	if (!rc)
		rc = allow_parse(w->job.settings.allow.at, w->job.settings.allow.n, &allow, &e);
	if (rc) {
		log_with(LOG_LEVEL_ERROR, FIELDS({ "session", w->job.offer.session }),
			 "the settings stay as they are: %s", e.text);
		return;
	}
	log_set_level((enum log_level)w->job.settings.log_level);
	streams_set_allow(w->streams, allow);
	allow_free(&w->allow);
	w->allow = allow;
	log_with(LOG_LEVEL_DEBUG, FIELDS({ "session", w->job.offer.session }), "new settings");
}

/* A machine whose host stops it for a while finds its clock behind, and learns that with the next connection. */
static void on_control(struct worker *w, const json_t *message)
{
	const json_t *clock = json_object_get(message, "server_clock_ms");
	lease_touch(&w->lease, json_is_true(json_object_get(message, "up")));
	if (!json_is_integer(clock) || w->over)
		return;
	w->job.offer.server_clock_ms = json_integer_value(clock);
	uv_timer_start(&w->expiry, w->expiry.timer_cb, 0, 0);
}

/* A worker of a higher generation has the session now. Its end is not the session's end. */
static void on_superseded(struct worker *w)
{
	w->superseded = true;
	end_session(w, CLOSE_REPLACED, LINK_TERMINATED, RESUMED_ELSEWHERE);
}

static void on_message(void *user, json_t *message)
{
	struct worker *w = user;
	const char *type = json_string_value(json_object_get(message, "type"));
	if (!type)
		return;
	if (strcmp(type, "ack") == 0) {
		json_int_t n = json_integer_value(json_object_get(message, "n"));
		reports_ack(w->reports, n > 0 ? (uint64_t)n : 0);
		leave_if_done(w);
	} else if (strcmp(type, "control") == 0) {
		on_control(w, message);
	} else if (strcmp(type, "grant") == 0 && !w->over) {
		on_grant(w, message);
	} else if (strcmp(type, "terminate") == 0 && !w->over) {
		on_terminate(w, message);
	} else if (strcmp(type, "settings") == 0 && !w->over) {
		on_settings(w, json_object_get(message, "settings"));
	} else if (strcmp(type, "superseded") == 0 && !w->over) {
		on_superseded(w);
	}
}

static void on_supervisor_gone(void *user, const char *why)
{
	struct worker *w = user;
	reports_attach(w->reports, NULL);
	channel_free(&w->supervisor);
	log_with(LOG_LEVEL_DEBUG, FIELDS({ "session", w->job.offer.session }), "supervisor gone: %s", why);
	lease_touch(&w->lease, false);
	leave_if_done(w);
}

/* The newest connection is the supervisor. */
static void take_supervisor(struct worker *w, int fd)
{
	static const struct channel_callbacks callbacks = { .message = on_message, .closed = on_supervisor_gone };
	struct err e = { 0 };
	struct channel *channel = NULL;
	if (channel_new(&w->loop, fd, &callbacks, w, &channel, &e)) {
		log_with(LOG_LEVEL_WARN, FIELDS({ "session", w->job.offer.session }), "supervisor turned away: %s",
			 e.text);
		return;
	}
	channel_free(&w->supervisor);
	w->supervisor = channel;
	json_auto_t *hello = json_pack("{s:s, s:s, s:I, s:I}", "type", "hello", "session", w->job.offer.session,
				       "generation", (json_int_t)w->job.offer.generation, "pid", (json_int_t)getpid());
	if (hello)
		channel_send(channel, hello);
	reports_attach(w->reports, channel);
}

static void on_connection(struct acceptor *a, int fd)
{
	take_supervisor(a->user, fd);
}

static int listen_here(struct worker *w, struct err *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char path[EXITS_PATH];
	int rc = exits_path(w->job.settings.runtime_dir, w->name, "sock", path, e);
	if (rc)
		return rc;
	if (strlen(path) >= sizeof address.sun_path)
		return err_set(e, ERR_LIMIT, "%s: too long for a socket's name; choose a shorter runtime_dir", path);
	strcpy(address.sun_path, path);
	unlink(path); /* the supervisor starts one worker a name: what is there is a dead one's */
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mode_t old = umask(0177);
	bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 4) == 0;
	umask(old);
	if (!ok) {
		rc = err_set_errno(e, ERR_IO, errno, "%s", path);
		if (fd >= 0)
			close(fd);
		return rc;
	}
	w->listener = (struct acceptor){ .take = on_connection, .user = w };
	return acceptor_start(&w->listener, &w->loop, fd, e);
}

/* --- the session */

static void on_state(void *user, enum endpoint_state state, int64_t outage_ms, const char *text)
{
	struct worker *w = user;
	const struct log_field *fields = FIELDS({ "session", w->job.offer.session });
	if (state == ENDPOINT_UP && outage_ms > 0)
		log_with(LOG_LEVEL_INFO, fields, "resumed after %lld ms", (long long)outage_ms);
	else if (state == ENDPOINT_UP)
		log_with(LOG_LEVEL_INFO, fields, "session up");
	else if (state == ENDPOINT_LOST)
		log_with(LOG_LEVEL_INFO, fields, "connection lost, resuming: %s", text ? text : "");
}

static void on_open(void *user, uint32_t stream, const struct link_dest *dest)
{
	struct worker *w = user;
	streams_open(w->streams, stream, dest);
}

static void on_lease(void *user, bool frozen)
{
	struct worker *w = user;
	if (!w->ep || w->over)
		return;
	log_with(LOG_LEVEL_WARN, FIELDS({ "session", w->job.offer.session }), "%s",
		 frozen ? "the control plane has been out of reach for too long: the session is frozen"
			: "the control plane is in reach again: the session goes on");
	streams_freeze(w->streams, frozen);
	endpoint_freeze(w->ep, frozen);
}

static void on_stream_closed(void *user, uint32_t stream, unsigned code, const char *text, uint64_t bytes_in,
			     uint64_t bytes_out)
{
	struct worker *w = user;
	streams_closed(w->streams, stream, code, text, bytes_in, bytes_out);
}

/* The close code that says the same as what ended this end. */
static unsigned close_code_of(const struct endpoint_end *end)
{
	if (end->close_code)
		return end->close_code == 1000 ? 4000 : end->close_code;
	switch (end->http_status) {
	case 0:
		break;
	case 401:
		return 4401;
	case 403:
		return 4403;
	case 404:
		return 4404;
	default:
		return 4000;
	}
	switch (end->link_code) {
	case LINK_OK:
		return 4000;
	case LINK_TIMEOUT:
		return 4006;
	case LINK_TERMINATED:
		return 4003;
	case LINK_EXPIRED:
		return 4004;
	case LINK_PROTOCOL:
		return 4008;
	default:
		return 4010;
	}
}

static void on_farewell_over(uv_timer_t *timer)
{
	uv_stop(timer->loop);
}

static void on_over(void *user, const struct endpoint_end *end)
{
	struct worker *w = user;
	struct err e = { 0 };
	unsigned code = w->end_code ? w->end_code : close_code_of(end);
	const char *text = w->end_code ? w->end_text : end->text;
	const char *session = w->job.offer.session;
	if (w->over)
		return;
	w->over = true;
	/* Nobody but a worker of a higher generation can take this one's place: the relay may tell it first. */
	w->superseded |= code == CLOSE_REPLACED;
	streams_end(w->streams, w->superseded ? RESUMED_ELSEWHERE : text);
	if (!w->superseded)
		reports_add(w->reports, json_pack("{s:s, s:s, s:I, s:I, s:s}", "type", "session-closed", "session",
						  session, "generation", (json_int_t)w->job.offer.generation, "code",
						  (json_int_t)code, "text", text));
	log_with(LOG_LEVEL_INFO, FIELDS({ "session", session }), "session over (%u): %s", code, text);
	if (exits_write(w->job.settings.runtime_dir, w->name, reports_waiting(w->reports), &e))
		log_with(LOG_LEVEL_ERROR, FIELDS({ "session", session }), "exit record: %s", e.text);
	uv_timer_start(&w->farewell, on_farewell_over, FAREWELL_MS, 0);
	leave_if_done(w);
}

static void on_expiry(uv_timer_t *timer)
{
	struct worker *w = timer->data;
	int64_t left = w->grant.expires_at_ms - (clock_mono_ms() + w->job.offer.server_clock_ms);
	if (left <= 0)
		end_session(w, 4004, LINK_EXPIRED,
			    w->grant.bound ? "the credential that the session is bound to expired and was not renewed"
					   : "the session reached its maximum duration");
	else
		uv_timer_start(timer, on_expiry, (uint64_t)(left < EXPIRY_CHECK_MS ? left : EXPIRY_CHECK_MS), 0);
}

static void on_child(uv_signal_t *handle, int number)
{
	struct worker *w = handle->data;
	(void)number;
	streams_reap(w->streams);
}

static void on_term(uv_signal_t *handle, int number)
{
	struct worker *w = handle->data;
	(void)number;
	end_session(w, 4003, LINK_TERMINATED, "the target stopped the session");
}

/* --- start and end */

/* Exactly the job's line; what the supervisor sent behind it stays in the socket for the channel. */
static int read_job(struct job *out, struct err *e)
{
	static char text[LIMIT_AGENT_JOB + 1];
	size_t len = 0;
	int rc = ERR_CLOSED;
	while (len < LIMIT_AGENT_JOB) {
		ssize_t n = recv(WORKER_FD, text + len, LIMIT_AGENT_JOB - len, MSG_PEEK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		char *end = memchr(text + len, '\n', (size_t)n);
		n = recv(WORKER_FD, text + len, end ? (size_t)(end - (text + len)) + 1 : (size_t)n, 0);
		if (n <= 0)
			break;
		len += (size_t)n;
		if (end) {
			rc = job_parse(text, len - 1, out, e);
			break;
		}
	}
	if (rc == ERR_CLOSED)
		err_set(e, rc, "no job came");
	secret_wipe(text, sizeof text);
	return rc;
}

static int start_endpoint(struct worker *w, struct err *e)
{
	static const struct endpoint_callbacks callbacks = {
		.state = on_state, .open = on_open, .stream_closed = on_stream_closed, .over = on_over
	};
	const struct offer *o = &w->job.offer;
	EVP_PKEY *key = NULL;
	struct endpoint_config config = { .role = LINK_TARGET,
					  .session = o->session,
					  .token = o->token,
					  .relay_url = o->relay_url,
					  .server_urls = w->job.server_urls,
					  .proxy = w->job.settings.proxy,
					  .give_up_ms = o->detach_grace_s ? o->detach_grace_s * 1000 + GIVE_UP_MARGIN_MS
									  : GIVE_UP_MS };
	int rc = key_pin_parse(o->client_pin, config.peer_pin, e);
	if (!rc)
		rc = net_tls_new(w->job.settings.ca_file, &w->tls, e);
	if (!rc)
		rc = state_load_link_key(w->job.settings.state_dir, &key, e);
	config.tls = w->tls;
	config.key = key;
	if (!rc)
		rc = endpoint_start(&w->loop, &config, &callbacks, w, &w->ep, e);
	EVP_PKEY_free(key);
	job_wipe_token(&w->job);
	if (!rc)
		streams_set_endpoint(w->streams, w->ep);
	return rc;
}

static void init_handles(struct worker *w)
{
	uv_loop_init(&w->loop);
	uv_timer_init(&w->loop, &w->expiry);
	uv_timer_init(&w->loop, &w->farewell);
	lease_init(&w->lease, &w->loop, on_lease, w);
	uv_signal_init(&w->loop, &w->child);
	uv_signal_init(&w->loop, &w->term);
	w->expiry.data = w->farewell.data = w->child.data = w->term.data = w;
}

static int start(struct worker *w, struct err *e)
{
	struct settings *s = &w->job.settings;
	w->lease.ms = w->job.offer.lease_s * 1000;
	int rc = allow_parse(s->allow.at, s->allow.n, &w->allow, e);
	if (!rc)
		rc = grant_parse(w->job.offer.grant, &w->grant, e);
	w->no_logins = !w->grant.ssh;
	if (!rc && w->no_logins)
		rc = privileges_drop(e);
	if (!rc && !(w->reports = reports_new(w->job.offer.session)))
		rc = err_set(e, ERR_NOMEM, "out of memory");
	const struct streams_config config = { .loop = &w->loop,
					       .session = w->job.offer.session,
					       .name = w->name,
					       .generation = w->job.offer.generation,
					       .server_clock_ms = &w->job.offer.server_clock_ms,
					       .settings = s,
					       .allow = w->allow,
					       .reports = w->reports };
	if (!rc)
		rc = streams_new(&config, &w->grant, &w->streams, e);
	if (!rc)
		rc = listen_here(w, e);
	if (!rc)
		rc = start_endpoint(w, e);
	if (rc)
		return rc;
	uv_signal_start(&w->child, on_child, SIGCHLD);
	uv_signal_start(&w->term, on_term, SIGTERM);
	uv_timer_start(&w->expiry, on_expiry, 0, 0);
	take_supervisor(w, WORKER_FD);
	return 0;
}

static void close_all(struct worker *w)
{
	endpoint_free(&w->ep);
	streams_free(&w->streams);
	channel_free(&w->supervisor);
	acceptor_stop(&w->listener);
	lease_end(&w->lease);
	uv_close((uv_handle_t *)&w->expiry, NULL);
	uv_close((uv_handle_t *)&w->child, NULL);
	uv_close((uv_handle_t *)&w->term, NULL);
	/* A lookup that hangs in the resolver must not keep the process. */
	uv_timer_start(&w->farewell, on_farewell_over, 1000, 0);
	uv_unref((uv_handle_t *)&w->farewell);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	uv_close((uv_handle_t *)&w->farewell, NULL);
	uv_run(&w->loop, UV_RUN_NOWAIT);
	if (uv_loop_close(&w->loop) != 0)
		_exit(0);
	reports_free(&w->reports);
	allow_free(&w->allow);
	net_tls_free(&w->tls);
}

/* The supervisor learns why; it has not been told that the session is accepted. */
static void say_failed(const char *text)
{
	json_auto_t *message = json_pack("{s:s, s:s}", "type", "failed", "text", text);
	char *line = message ? json_text(message) : NULL;
	if (line && send(WORKER_FD, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
		(void)!send(WORKER_FD, "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	free(line);
}

int worker_main(void)
{
	static struct worker w;
	struct err e = { 0 };
	char path[EXITS_PATH];
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN); /* meant for the supervisor, and told all of its unit; sshd has it back */
	heap_keep();
	fcntl(WORKER_FD, F_SETFD, FD_CLOEXEC);
	init_handles(&w);
	int rc = read_job(&w.job, &e);
	if (!rc) {
		log_init("tunnel-agent", (enum log_level)w.job.settings.log_level,
			 (enum log_format)w.job.settings.log_format);
		name_make(w.job.offer.session, w.job.offer.generation, w.name);
		rc = start(&w, &e);
	}
	if (rc) {
		log_with(LOG_LEVEL_ERROR, FIELDS({ "session", w.job.offer.session }), "worker: %s", e.text);
		say_failed(e.text);
	} else {
		uv_run(&w.loop, UV_RUN_DEFAULT);
		if (exits_path(w.job.settings.runtime_dir, w.name, "sock", path, NULL) == 0)
			unlink(path);
	}
	close_all(&w);
	job_free(&w.job);
	return rc ? 1 : 0;
}
