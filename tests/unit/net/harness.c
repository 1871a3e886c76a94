#include "harness.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 60000

static void start_server(struct harness *h)
{
	int in[2], out[2];
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	h->server = fork();
	assert_true(h->server >= 0);
	if (h->server == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[0]), close(in[1]), close(out[0]), close(out[1]);
		execl("/usr/bin/python3", "python3", WS_SERVER, h->folder, (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	h->server_in = in[1];
	FILE *f = fdopen(out[0], "r");
	for (int i = 0; i < PORTS; i++)
		if (fscanf(f, "%u", &h->ports[i]) != 1)
			fail_msg("the server did not start");
	fclose(f);
}

int harness_setup(void **state)
{
	struct harness *h = calloc(1, sizeof *h);
	char ca[100];
	signal(SIGPIPE, SIG_IGN);
	case_folder(h->folder);
	start_server(h);
	uv_loop_init(&h->loop);
	snprintf(ca, sizeof ca, "%s/good.pem", h->folder);
	assert_int_equal(net_tls_new(ca, &h->tls, NULL), 0);
	*state = h;
	return 0;
}

static void on_walk(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle))
		fail_msg("a handle of type %s is left", uv_handle_type_name(handle->type));
}

int harness_teardown(void **state)
{
	struct harness *h = *state;
	uv_walk(&h->loop, on_walk, NULL);
	uv_run(&h->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&h->loop), 0);
	close(h->server_in);
	waitpid(h->server, NULL, 0);
	net_tls_free(&h->tls);
	case_folder_remove(h->folder);
	free(h);
	return 0;
}

static void on_open(void *user)
{
	((struct seen_ws *)user)->opened = true;
}

static void on_text(void *user, const char *text, size_t len)
{
	struct seen_ws *s = user;
	assert_int_equal(strlen(text), len);
	buf_printf(&s->texts, "%s\n", text);
	if (s->free_in_text) {
		ws_client_free(&s->ws);
		s->ended = true;
	}
}

static void on_binary(void *user, const uint8_t *data, size_t len)
{
	struct seen_ws *s = user;
	for (size_t i = 0; i < len; i++)
		s->sum = s->sum * 31 + data[i];
	s->bytes += len;
	if (len > s->largest)
		s->largest = len;
}

static void on_writable(void *user)
{
	((struct seen_ws *)user)->writable++;
}

static void on_closed(void *user, int status, const char *body, unsigned code, const char *reason)
{
	struct seen_ws *s = user;
	s->ended = true;
	s->ends++;
	s->status = status;
	s->code = code;
	snprintf(s->body, sizeof s->body, "%s", body);
	snprintf(s->reason, sizeof s->reason, "%s", reason);
}

static void on_progress(void *user, enum ws_step step)
{
	struct seen_ws *s = user;
	assert_false(s->opened);
	if (step == WS_STEP_CONNECTED)
		s->connected = true;
	else
		s->secured = true;
	if (step == WS_STEP_CONNECTED ? s->free_when_connected : s->free_when_secured) {
		ws_client_free(&s->ws);
		s->ended = true;
	}
}

const struct ws_callbacks harness_callbacks = { .open = on_open,
						.text = on_text,
						.binary = on_binary,
						.writable = on_writable,
						.closed = on_closed,
						.progress = on_progress };

struct ws_options harness_options(struct harness *h, const char *scheme, int port, const char *path)
{
	static char url[200];
	snprintf(url, sizeof url, "%s://localhost:%u%s", scheme, h->ports[port], path);
	return (struct ws_options){ .url = url, .tls = h->tls, .proxy = "" };
}

void harness_open(struct harness *h, const struct ws_options *options, struct seen_ws *out)
{
	struct err e = { 0 };
	memset(out, 0, sizeof *out);
	out->h = h;
	buf_init(&out->texts, 8 << 20);
	if (ws_client_open(&h->loop, options, &harness_callbacks, out, &out->ws, &e) != 0)
		fail_msg("%s", e.text);
}

static void on_guard(uv_timer_t *t)
{
	*(bool *)t->data = true;
}

static void on_guard_closed(uv_handle_t *h)
{
	free(h);
}

/* check gives true when it is what is waited for. */
static bool wait_for(struct harness *h, bool (*check)(const void *), const void *arg)
{
	bool late = false;
	uv_timer_t *guard = malloc(sizeof *guard);
	uv_timer_init(&h->loop, guard);
	guard->data = &late;
	uv_timer_start(guard, on_guard, WAIT_MS, 0);
	while (!check(arg) && !late)
		uv_run(&h->loop, UV_RUN_ONCE);
	bool done = check(arg);
	uv_close((uv_handle_t *)guard, on_guard_closed);
	uv_run(&h->loop, UV_RUN_NOWAIT);
	return done;
}

static bool is_set(const void *arg)
{
	return *(const bool *)arg;
}

void harness_wait(struct harness *h, const bool *flag)
{
	if (!wait_for(h, is_set, flag))
		fail_msg("nothing came");
}

struct wanted {
	const struct seen_ws *s;
	const char *texts;
	uint64_t bytes;
};

static bool has_texts(const void *arg)
{
	const struct wanted *w = arg;
	return w->s->texts.len >= strlen(w->texts);
}

void harness_wait_text(struct seen_ws *s, const char *texts)
{
	struct wanted w = { .s = s, .texts = texts };
	if (!wait_for(s->h, has_texts, &w))
		fail_msg("texts did not come; closed: %u %s", s->code, s->reason);
	assert_int_equal(s->texts.len, strlen(texts));
	assert_memory_equal(buf_data(&s->texts), texts, s->texts.len);
}

static bool has_bytes(const void *arg)
{
	const struct wanted *w = arg;
	return w->s->bytes >= w->bytes;
}

void harness_wait_bytes(struct seen_ws *s, uint64_t bytes)
{
	struct wanted w = { .s = s, .bytes = bytes };
	if (!wait_for(s->h, has_bytes, &w))
		fail_msg("%llu bytes came; closed: %u %s", (unsigned long long)s->bytes, s->code, s->reason);
}

void harness_close(struct seen_ws *s)
{
	ws_client_free(&s->ws);
	buf_free(&s->texts);
	uv_run(&s->h->loop, UV_RUN_NOWAIT);
}
