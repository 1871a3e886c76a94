/* The loop and its commands. Stopping takes three steps: what is under way comes back, the sessions end at both ends
 * and their agents' reports are acknowledged, the connections close; each step has its limit. */
#include "swarm.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define LOOK_MS 20
#define DRAIN_MS 20000
#define END_MS 30000
#define CLOSE_MS 2000
#define FILES_A_SESSION 14 /* two socket pairs, two legs and those that come to replace them, a call */

static struct {
	uv_pipe_t pipe;
	uv_signal_t signals[2];
	char chunk[256], line[64];
	size_t len;
	bool piped;
} in;

static struct {
	enum { STOP_DRAIN, STOP_SESSIONS, STOP_REPORTS, STOP_CONNECTIONS } step;
	int64_t until;
} stop;

/* ---- the end ---- */

static bool reports_waiting(const struct swarm *s)
{
	for (size_t i = 0; i < s->agents_begun; i++)
		if (json_array_size(s->agents[i].reports) > 0 && s->agents[i].enrolled)
			return true;
	return false;
}

static bool connected(const struct swarm *s)
{
	for (size_t i = 0; i < s->agents_begun; i++)
		if (s->agents[i].ws)
			return true;
	return false;
}

static void next_step(int64_t most_ms)
{
	stop.step++;
	stop.until = clock_mono_ms() + most_ms;
}

static void on_stop_look(uv_timer_t *timer)
{
	struct swarm *s = timer->data;
	bool late = clock_mono_ms() > stop.until;
	if (stop.step == STOP_DRAIN && (late || stats_unanswered(s) == 0)) {
		if (late)
			stats_error(s, "%llu bytes did not come back", (unsigned long long)stats_unanswered(s));
		for (size_t i = 0; i < s->sessions_begun; i++)
			session_end(&s->sessions[i]);
		next_step(END_MS);
	} else if (stop.step == STOP_SESSIONS && (late || stats_sessions_live(s) == 0)) {
		if (late)
			stats_error(s, "%zu sessions or their agents did not end", stats_sessions_live(s));
		next_step(END_MS);
	} else if (stop.step == STOP_REPORTS && (late || !reports_waiting(s))) {
		if (late)
			stats_error(s, "reports were not acknowledged");
		for (size_t i = 0; i < s->agents_begun; i++)
			agent_stop(&s->agents[i]);
		next_step(CLOSE_MS);
	} else if (stop.step == STOP_CONNECTIONS && (late || !connected(s))) {
		uv_stop(&s->loop);
	}
}

static void pause_all(struct swarm *s, bool paused)
{
	for (size_t i = 0; i < s->sessions_begun; i++)
		if (s->sessions[i].traffic)
			traffic_pause(s->sessions[i].traffic, paused);
}

static void begin_stop(struct swarm *s)
{
	if (s->stopping)
		return;
	s->stopping = true;
	start_stop(s);
	pause_all(s, true);
	stop.until = clock_mono_ms() + DRAIN_MS;
	uv_timer_start(&s->stop_timer, on_stop_look, 0, LOOK_MS);
}

static void on_seconds(uv_timer_t *timer)
{
	begin_stop(timer->data);
}

static void on_signal(uv_signal_t *handle, int number)
{
	(void)number;
	begin_stop(handle->data);
}

/* ---- commands ---- */

static void print(json_t *json)
{
	char *text = json_text(json);
	printf("%s\n", text ? text : "{\"error\":\"out of memory\"}");
	fflush(stdout);
	free(text);
	json_decref(json);
}

static json_t *run_command(struct swarm *s, const char *line)
{
	if (strcmp(line, "stats") == 0)
		return stats_json(s);
	if (strcmp(line, "ups") == 0)
		return stats_ups_json(s);
	if (strcmp(line, "overs") == 0)
		return stats_overs_json(s);
	if (strcmp(line, "mark") == 0)
		stats_mark(s);
	else if (strcmp(line, "pause") == 0)
		pause_all(s, true);
	else if (strcmp(line, "resume") == 0)
		pause_all(s, false);
	else if (strcmp(line, "go") == 0)
		s->options.hold = false;
	else if (strcmp(line, "quit") == 0)
		begin_stop(s);
	else
		return json_pack("{s:s}", "error",
				 "unknown command; allowed: stats, mark, ups, overs, pause, resume, go, quit");
	return json_pack("{s:b}", "ok", 1);
}

static void take_byte(struct swarm *s, char c)
{
	if (c != '\n') {
		if (in.len < sizeof in.line - 1)
			in.line[in.len++] = c;
		return;
	}
	in.line[in.len] = '\0';
	bool quit = strcmp(in.line, "quit") == 0; /* answered by the stats at the end */
	json_t *answer = in.len ? run_command(s, in.line) : NULL;
	if (answer && !quit)
		print(answer);
	else
		json_decref(answer);
	in.len = 0;
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
	(void)handle, (void)size;
	*out = uv_buf_init(in.chunk, sizeof in.chunk);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *data)
{
	struct swarm *s = stream->data;
	for (ssize_t i = 0; i < n; i++)
		take_byte(s, data->base[i]);
	if (n >= 0)
		return;
	uv_read_stop(stream);
	if (!s->options.seconds)
		begin_stop(s);
}

static int listen_stdin(struct swarm *s)
{
	uv_handle_type type = uv_guess_handle(STDIN_FILENO);
	if (type != UV_NAMED_PIPE && type != UV_TTY) {
		if (s->options.seconds)
			return 0;
		fputs("tunnel-swarm: stdin is no pipe and no terminal: give --seconds\n", stderr);
		return 2;
	}
	uv_pipe_init(&s->loop, &in.pipe, 0);
	in.pipe.data = s;
	in.piped = true;
	int rc = uv_pipe_open(&in.pipe, STDIN_FILENO);
	if (rc == 0)
		rc = uv_read_start((uv_stream_t *)&in.pipe, on_alloc, on_read);
	if (rc != 0)
		fprintf(stderr, "tunnel-swarm: stdin: %s\n", uv_strerror(rc));
	return rc ? 2 : 0;
}

/* ---- start ---- */

static int raise_files(const struct options *o)
{
	struct rlimit limit;
	rlim_t wanted = (rlim_t)(o->sessions * FILES_A_SESSION + o->agents + 400);
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
		return 0;
	limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= wanted)
		return 0;
	fprintf(stderr,
		"tunnel-swarm: %lld sessions may need %llu open files, the limit is %llu: raise it (ulimit -n)\n",
		(long long)o->sessions, (unsigned long long)wanted, (unsigned long long)limit.rlim_max);
	return 1;
}

static int set_up(struct swarm *s)
{
	static const int numbers[] = { SIGINT, SIGTERM };
	signal(SIGPIPE, SIG_IGN);
	s->agents = calloc((size_t)s->options.agents, sizeof *s->agents);
	s->sessions = calloc((size_t)s->options.sessions + 1, sizeof *s->sessions);
	if (!s->agents || !s->sessions || uv_loop_init(&s->loop) != 0) {
		fputs("tunnel-swarm: out of memory\n", stderr);
		return 1;
	}
	uv_timer_init(&s->loop, &s->pace);
	uv_timer_init(&s->loop, &s->seconds);
	uv_timer_init(&s->loop, &s->stop_timer);
	s->pace.data = s->seconds.data = s->stop_timer.data = s;
	for (size_t i = 0; i < 2; i++) {
		uv_signal_init(&s->loop, &in.signals[i]);
		in.signals[i].data = s;
		uv_signal_start(&in.signals[i], on_signal, numbers[i]);
	}
	s->started_mono_ms = clock_mono_ms();
	stats_mark(s);
	return listen_stdin(s);
}

/* ---- and out ---- */

static int write_report(struct swarm *s)
{
	struct err e;
	json_t *json = stats_json(s);
	char *text = json_dumps(json, JSON_INDENT(1));
	int rc = 0;
	if (s->options.report && (!text || file_write(s->options.report, text, strlen(text), 0644, &e) != 0)) {
		log_error("report: %s", text ? e.text : "out of memory");
		rc = 1;
	}
	free(text);
	print(json);
	return rc;
}

static bool failed(const struct swarm *s)
{
	return s->totals.errors > 0 || s->totals.mismatches > 0;
}

static void close_one(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static void tear_down(struct swarm *s)
{
	for (size_t i = 0; i < s->sessions_begun; i++)
		session_free(&s->sessions[i]);
	for (size_t i = 0; i < s->agents_begun; i++)
		agent_free(&s->agents[i]);
	uv_close((uv_handle_t *)&s->pace, NULL);
	uv_close((uv_handle_t *)&s->seconds, NULL);
	uv_close((uv_handle_t *)&s->stop_timer, NULL);
	for (size_t i = 0; i < 2; i++)
		uv_close((uv_handle_t *)&in.signals[i], NULL);
	if (in.piped)
		uv_close((uv_handle_t *)&in.pipe, NULL);
	uv_run(&s->loop, UV_RUN_DEFAULT);
	uv_walk(&s->loop, close_one, NULL); /* an echo whose stream went without a word */
	uv_run(&s->loop, UV_RUN_DEFAULT);
	if (uv_loop_close(&s->loop) != 0)
		log_error("the loop has handles left");
	for (size_t i = 0; i < s->sessions_begun; i++)
		net_tls_free(&s->sessions[i].tls);
	for (size_t i = 0; i < s->agents_begun; i++)
		net_tls_free(&s->agents[i].tls);
}

int main(int argc, char **argv)
{
	static struct swarm s;
	setenv("UV_THREADPOOL_SIZE", "32", 0); /* REST calls and name lookups wait there */
	int rc = options_read(argc, argv, &s.options);
	if (rc == 0) {
		log_init("tunnel-swarm", s.options.verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, LOG_FORMAT_LOGFMT);
		rc = raise_files(&s.options);
		if (rc == 0)
			rc = set_up(&s);
		if (rc == 0) {
			if (s.options.seconds)
				uv_timer_start(&s.seconds, on_seconds, (uint64_t)s.options.seconds * 1000, 0);
			start_begin(&s);
			uv_run(&s.loop, UV_RUN_DEFAULT);
			rc = write_report(&s) || failed(&s);
			tear_down(&s);
		}
	} else if (rc == 1) {
		rc = 0; /* --help */
	}
	options_free(&s.options);
	free(s.agents);
	free(s.sessions);
	return rc;
}
