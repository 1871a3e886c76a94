/* A session while it lives: signals, what is told of it, and its end. The end comes once, by on_over: from the
 * endpoint, or, when its last words take too long or somebody is in a hurry, without waiting for it. */
#include "cli/session.h"

#include "base/clock.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/ends.h"
#include "cli/session_renew.h"
#include "cli/signin.h"
#include "ident/key.h"
#include "net/timer.h"

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GIVE_UP_MS (15 * 60 * 1000)
#define STOP_LIMIT_MS 4000 /* how long a goodbye may take; the endpoint's own limit is shorter */
#define STOP_SLOW_MS 500   /* longer than this, and it is told */
#define END_WAIT_MS 2500   /* from a stream's end to the word that the session is over */
#define CLOSE_EXPIRED 4004 /* PROTOCOL.md, section 3 */
#define REST_LIMIT_MS 2000 /* how long what is left (ssh, a call that hangs) may take behind the end */

static void print_line(const char *text)
{
	/* ssh may hold the terminal in raw mode: return to column 0 by hand. */
	fprintf(stderr, isatty(STDERR_FILENO) ? "\rtunnel: %s\r\n" : "tunnel: %s\n", text);
}

void session_tell(const struct session *s, const char *fmt, ...)
{
	if (s->client->common->quiet)
		return;
	char text[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	text_make_plain(text);
	print_line(text);
}

void session_tell_status(struct session *s)
{
	char line[STORY_LINE];
	struct link_stats stats;
	if (s->over)
		return;
	endpoint_get_stats(s->endpoint, &stats);
	story_trouble(&s->story, endpoint_get_trouble(s->endpoint));
	story_status(&s->story, s->id, s->target, &stats, clock_mono_ms(), line);
	text_make_plain(line);
	print_line(line);
}

static json_t *tell_json(void *user)
{
	static const char *const names[] = { "connecting", "up", "resuming", "over" };
	struct session *s = user;
	const json_t *view = json_object_get(s->answer, "session");
	const char *trouble = s->over ? "" : endpoint_get_trouble(s->endpoint);
	struct link_stats stats = { .rtt_ms = -1 };
	int64_t now_ms = clock_mono_ms();
	if (!s->over)
		endpoint_get_stats(s->endpoint, &stats);
	json_t *row = json_pack(
		"{s:s, s:s, s:O?, s:O?, s:i, s:s, s:O?, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "session", s->id, "target",
		s->target, "kind", json_object_get(view, "kind"), "login", json_object_get(view, "login"), "pid",
		(int)getpid(), "state", names[s->over ? ENDPOINT_OVER : s->story.state], "started_at",
		json_object_get(view, "created_at"), "state_for_ms", (json_int_t)(now_ms - s->story.since_ms),
		"streams", (json_int_t)stats.streams, "bytes_in", (json_int_t)stats.bytes_in, "bytes_out",
		(json_int_t)stats.bytes_out, "resumes", (json_int_t)s->story.resumes, "at_ms", (json_int_t)now_ms,
		"trouble", s->story.state == ENDPOINT_UP ? "" : trouble);
	json_object_set_new(row, "rtt_ms", stats.rtt_ms < 0 ? json_null() : json_integer(stats.rtt_ms));
	return row;
}

static void serve_status(struct session *s)
{
	struct err e = { 0 };
	s->status = (struct status_socket){ .tell = tell_json, .user = s };
	if (status_socket_start(&s->status, &s->loop, s->id, &e) != 0)
		log_debug("session %s is not in tunnel-cli status: %s", s->id, e.text);
}

static void arm_story(struct session *s);

static void on_story_due(uv_timer_t *t)
{
	struct session *s = t->data;
	char line[STORY_LINE];
	story_trouble(&s->story, endpoint_get_trouble(s->endpoint));
	if (story_tick(&s->story, clock_mono_ms(), clock_wall_ms(), line))
		session_tell(s, "%s", line);
	arm_story(s);
}

static void arm_story(struct session *s)
{
	if (s->story.next_ms == INT64_MAX || s->over || s->stopping) {
		uv_timer_stop(&s->story_timer);
		return;
	}
	timer_at(&s->story_timer, on_story_due, s->story.next_ms);
}

static void on_state(void *user, enum endpoint_state state, int64_t outage_ms, const char *text)
{
	struct session *s = user;
	char line[STORY_LINE];
	if (s->stopping)
		return;
	log_debug("session %s: %s%s%s", s->id, state == ENDPOINT_UP ? "up" : "not up", *text ? ": " : "", text);
	if (story_state(&s->story, state, outage_ms, text, clock_mono_ms(), line))
		session_tell(s, "%s", line);
	arm_story(s);
}

static void on_notice(void *user, unsigned code, int64_t at_ms, const char *reason)
{
	struct session *s = user;
	char line[STORY_LINE];
	if (code == CLOSE_EXPIRED)
		session_renew_hurry(s);
	if (!s->stopping && story_notice(&s->story, code, at_ms, reason, clock_wall_ms(), line))
		session_tell(s, "%s", line);
}

static void on_opened(void *user, uint32_t stream)
{
	struct session *s = user;
	if (s->mode->opened)
		s->mode->opened(s->mode, s, stream);
}

static void on_asked(void *user, uint32_t stream, const struct link_dest *dest)
{
	struct session *s = user;
	if (s->mode->asked && !s->stopping)
		s->mode->asked(s->mode, s, stream, dest);
	else
		endpoint_refuse(s->endpoint, stream, LINK_NOT_ALLOWED, "this client takes no streams");
}

static void on_local_error(void *user, uint32_t stream, int error)
{
	struct session *s = user;
	(void)stream;
	s->local_error = error;
}

static void on_stream_closed(void *user, uint32_t stream, unsigned code, const char *text, uint64_t in, uint64_t out)
{
	struct session *s = user;
	(void)in, (void)out;
	if (s->mode->stream_closed)
		s->mode->stream_closed(s->mode, s, stream, code, text);
}

static void close_handle(uv_handle_t *h)
{
	if (!uv_is_closing(h))
		uv_close(h, NULL);
}

/* What is still under way is left behind. */
static void leave_rest(struct session *s)
{
	if (s->mode->hurry)
		s->mode->hurry(s->mode, s);
	s->rest = true;
	uv_stop(&s->loop);
}

static void on_rest_limit(uv_timer_t *t)
{
	leave_rest(t->data);
}

static void close_handles(struct session *s)
{
	for (size_t i = 0; i < SESSION_SIGNALS; i++)
		uv_unref((uv_handle_t *)&s->signals[i]); /* a second Ctrl-C still counts while something is left */
	close_handle((uv_handle_t *)&s->story_timer);
	session_renew_stop(s);
	status_socket_stop(&s->status);
	uv_unref((uv_handle_t *)&s->stop_timer);
	uv_timer_start(&s->stop_timer, on_rest_limit, REST_LIMIT_MS, 0);
}

static void tell_end(struct session *s, const struct endpoint_end *end)
{
	struct session_ending ending;
	ending_of_endpoint(end, s->mode->resumable, &ending);
	s->exit_code = ending.exit_code;
	s->gone = ending.gone;
	complain("session %s is over%s: %s%s%s", s->id, ending.gone ? "" : " for this client", ending.text,
		 ending.next ? "; " : "", ending.next ? ending.next : "");
}

static void on_over(void *user, const struct endpoint_end *end)
{
	struct session *s = user;
	if (s->over)
		return;
	s->over = true;
	if (!s->stopping)
		tell_end(s, end);
	else
		s->gone = !s->detaching;
	endpoint_free(&s->endpoint);
	s->mode->over(s->mode, s);
	close_handles(s);
}

static void end_without_answer(struct session *s)
{
	const struct endpoint_end end = { .text = "no goodbye in time" };
	on_over(s, &end);
}

static void on_stop_limit(uv_timer_t *t)
{
	end_without_answer(t->data);
}

static void on_stop_slow(uv_timer_t *t)
{
	session_tell(t->data, "ending the session; Ctrl-C again leaves at once");
	uv_timer_start(t, on_stop_limit, STOP_LIMIT_MS, 0);
}

static void on_signal(uv_signal_t *h, int signum)
{
	struct session *s = h->data;
	bool ends = signum == SIGINT || signum == SIGTERM || signum == SIGHUP;
	if (!ends && s->over)
		return;
	if (ends && (s->stopping || s->over)) {
		s->exit_code = 128 + signum;
		end_without_answer(s);
		leave_rest(s);
	} else if (signum == SIGUSR1) {
		session_tell_status(s);
	} else if (signum == SIGUSR2) {
		endpoint_network_changed(s->endpoint);
	} else if (s->mode->interrupted) {
		s->mode->interrupted(s->mode, s, signum);
	} else {
		session_stop(s, 128 + signum);
	}
}

void session_stop(struct session *s, int exit_code)
{
	if (s->over || s->stopping)
		return;
	s->stopping = true;
	s->exit_code = exit_code;
	uv_timer_start(&s->stop_timer, on_stop_slow, STOP_SLOW_MS, 0);
	endpoint_end(s->endpoint, LINK_OK, "ended by its client");
}

static void on_still_not_over(uv_timer_t *t)
{
	struct session *s = t->data;
	if (s->complaint[0])
		complain("%s", s->complaint);
	session_stop(s, s->later_code);
}

void session_stop_unless_over(struct session *s, int exit_code, const char *complaint)
{
	if (s->over || s->stopping)
		return;
	s->later_code = exit_code;
	snprintf(s->complaint, sizeof s->complaint, "%s", complaint);
	uv_timer_start(&s->stop_timer, on_still_not_over, END_WAIT_MS, 0);
}

bool session_code_ends_streams(unsigned code)
{
	return code == LINK_TERMINATED || code == LINK_EXPIRED || code == LINK_TIMEOUT;
}

void session_detach(struct session *s)
{
	if (s->over || s->stopping)
		return;
	s->stopping = s->detaching = true;
	s->exit_code = EXIT_CODE_OK;
	uv_timer_start(&s->stop_timer, on_stop_slow, STOP_SLOW_MS, 0);
	endpoint_detach(s->endpoint);
}

static void watch_signals(struct session *s)
{
	static const int signums[SESSION_SIGNALS] = { SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 };
	for (size_t i = 0; i < SESSION_SIGNALS; i++) {
		struct sigaction before;
		if (sigaction(signums[i], NULL, &before) != 0 || before.sa_handler != SIG_IGN)
			uv_signal_start(&s->signals[i], on_signal, signums[i]);
	}
}

static int start_endpoint(struct session *s, struct err *e)
{
	static const struct endpoint_callbacks callbacks = { .state = on_state,
							     .open = on_asked,
							     .opened = on_opened,
							     .local_error = on_local_error,
							     .stream_closed = on_stream_closed,
							     .notice = on_notice,
							     .over = on_over };
	const struct profile *p = &s->client->profile;
	const char **urls = calloc(p->servers.n + 1, sizeof *urls);
	if (!urls)
		return err_set(e, ERR_NOMEM, "out of memory");
	for (size_t i = 0; i < p->servers.n; i++)
		urls[i] = p->servers.at[i];
	struct endpoint_config config = {
		.role = LINK_CLIENT,
		.session = s->id,
		.token = json_string_value(json_object_get(s->answer, "token")),
		.relay_url = json_string_value(json_object_get(s->answer, "relay_url")),
		.server_urls = urls,
		.key = s->key,
		.tls = s->tls,
		.proxy = p->proxy,
		.give_up_ms = s->give_up_ms,
	};
	int rc = key_pin_parse(json_string_value(json_object_get(s->answer, "target_pin")), config.peer_pin, e);
	if (rc == 0)
		rc = endpoint_start(&s->loop, &config, &callbacks, s, &s->endpoint, e);
	free(urls);
	return rc;
}

static void run_mode(struct session *s)
{
	if (session_interrupted()) {
		session_stop(s, 128 + session_interrupted());
		return;
	}
	int code = s->mode->begin(s->mode, s);
	if (code != EXIT_CODE_OK)
		session_stop(s, code);
}

int session_open_loop(struct session *s)
{
	heap_keep();
	if (uv_loop_init(&s->loop) != 0) {
		complain("no event loop: out of descriptors or memory");
		return EXIT_CODE_FAILED;
	}
	s->loop_ready = true;
	for (size_t i = 0; i < SESSION_SIGNALS; i++) {
		uv_signal_init(&s->loop, &s->signals[i]);
		s->signals[i].data = s;
	}
	uv_timer_init(&s->loop, &s->stop_timer);
	uv_timer_init(&s->loop, &s->story_timer);
	s->stop_timer.data = s->story_timer.data = s;
	return EXIT_CODE_OK;
}

int session_run(struct session *s, struct session_mode *mode)
{
	struct err e = { 0 };
	s->mode = mode;
	if (!s->loop_ready && session_open_loop(s) != EXIT_CODE_OK)
		return EXIT_CODE_FAILED;
	s->give_up_ms = s->give_up_ms ? s->give_up_ms : GIVE_UP_MS;
	watch_signals(s);
	story_begin(&s->story, s->give_up_ms, clock_mono_ms());
	session_renew_start(s);
	int rc = net_tls_new(s->client->profile.ca_file, &s->tls, &e);
	if (rc == 0)
		rc = start_endpoint(s, &e);
	if (rc != 0) {
		complain("%s", e.text);
		s->stopping = true;
		s->exit_code = exit_for_err(&e);
		end_without_answer(s);
	} else {
		serve_status(s);
		arm_story(s);
		run_mode(s);
	}
	uv_run(&s->loop, UV_RUN_DEFAULT);
	return s->exit_code;
}

void session_free(struct session *s)
{
	endpoint_free(&s->endpoint);
	if (s->loop_ready && !s->rest) {
		for (size_t i = 0; i < SESSION_SIGNALS; i++)
			close_handle((uv_handle_t *)&s->signals[i]);
		close_handle((uv_handle_t *)&s->stop_timer);
		close_handle((uv_handle_t *)&s->story_timer);
		uv_run(&s->loop, UV_RUN_DEFAULT);
		uv_loop_close(&s->loop);
	}
	if (!s->rest)
		net_tls_free(&s->tls);
	EVP_PKEY_free(s->key);
	json_decref(s->answer);
}

int session_leave(const struct session *s, int exit_code)
{
	if (!s->rest)
		return exit_code;
	signin_leave_blocking();
	fflush(NULL);
	_exit(exit_code); /* the way through exit() would wait for libuv's threads */
}
