#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

const struct link_dest harness_dest = { .kind = LINK_KIND_TCP, .host = "127.0.0.1", .port = 7 };

static void start_relay(struct harness *h)
{
	int in[2], out[2];
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	h->relay = fork();
	assert_true(h->relay >= 0);
	if (h->relay == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[0]), close(in[1]), close(out[0]), close(out[1]);
		execl("/usr/bin/python3", "python3", RELAY, h->folder, (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	h->to = fdopen(in[1], "w");
	h->from = fdopen(out[0], "r");
	char line[64];
	if (!fgets(line, sizeof line, h->from) || sscanf(line, "%u %u %u", &h->port_a, &h->port_b, &h->port_rest) != 3)
		fail_msg("the relay did not start");
	snprintf(h->url_a, sizeof h->url_a, "https://localhost:%u", h->port_a);
	snprintf(h->url_b, sizeof h->url_b, "https://localhost:%u", h->port_b);
	snprintf(h->url_rest, sizeof h->url_rest, "https://localhost:%u", h->port_rest);
}

int harness_setup(void **state)
{
	struct harness *h = calloc(1, sizeof *h);
	char ca[100];
	signal(SIGPIPE, SIG_IGN);
	case_folder(h->folder);
	start_relay(h);
	uv_loop_init(&h->loop);
	snprintf(ca, sizeof ca, "%s/ca.pem", h->folder);
	assert_int_equal(net_tls_new(ca, &h->tls, NULL), 0);
	h->client_key = key_generate(NULL);
	h->target_key = key_generate(NULL);
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
	endpoint_free(&h->client.ep);
	endpoint_free(&h->target.ep);
	uv_walk(&h->loop, on_walk, NULL);
	uv_run(&h->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&h->loop), 0);
	fclose(h->to);
	fclose(h->from);
	waitpid(h->relay, NULL, 0);
	net_tls_free(&h->tls);
	EVP_PKEY_free(h->client_key);
	EVP_PKEY_free(h->target_key);
	case_folder_remove(h->folder);
	while (__atomic_load_n(&h->echoes, __ATOMIC_ACQUIRE))
		usleep(1000);
	free(h);
	return 0;
}

const char *harness_tell(struct harness *h, const char *fmt, ...)
{
	static char line[400];
	va_list ap;
	va_start(ap, fmt);
	vfprintf(h->to, fmt, ap);
	va_end(ap);
	fputc('\n', h->to);
	fflush(h->to);
	if (!fgets(line, sizeof line, h->from))
		fail_msg("the relay is gone");
	return line;
}

unsigned harness_stat(struct harness *h, const char *name)
{
	const char *at = strstr(harness_tell(h, "stats"), name);
	return at ? (unsigned)strtoul(at + strlen(name) + 1, NULL, 10) : 0;
}

static void on_timer(uv_timer_t *t)
{
	(void)t;
}

static void on_timer_closed(uv_handle_t *t)
{
	free(t);
}

void harness_turn(struct harness *h)
{
	uv_timer_t *t = malloc(sizeof *t);
	uv_timer_init(&h->loop, t);
	uv_timer_start(t, on_timer, 20, 0);
	uv_run(&h->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)t, on_timer_closed);
	uv_run(&h->loop, UV_RUN_NOWAIT);
}

static bool leave(struct end *end, enum moment now)
{
	if (end->free_at != now)
		return false;
	endpoint_free(&end->ep);
	return true;
}

static void on_state(void *user, enum endpoint_state state, int64_t outage_ms, const char *text)
{
	struct end *end = user;
	assert_int_equal(end->overs, 0);
	if (state == ENDPOINT_UP) {
		end->ups++;
		end->up = true;
		end->outage_ms = outage_ms;
	} else if (state == ENDPOINT_LOST) {
		assert_true(end->up);
		end->losts++;
		end->up = false;
		snprintf(end->lost, sizeof end->lost, "%s", text);
	} else {
		snprintf(end->trouble, sizeof end->trouble, "%s", text);
	}
	leave(end, state == ENDPOINT_UP ? AT_UP : state == ENDPOINT_LOST ? AT_LOST : AT_CONNECTING);
}

static void on_open(void *user, uint32_t stream, const struct link_dest *dest)
{
	struct end *end = user;
	end->asked++;
	if (!leave(end, AT_OPEN))
		end->on_open(end, stream, dest);
}

static void on_opened(void *user, uint32_t stream)
{
	(void)stream;
	leave(user, AT_OPENED);
}

static void on_stream_closed(void *user, uint32_t stream, unsigned code, const char *text, uint64_t in, uint64_t out)
{
	struct end *end = user;
	assert_int_equal(end->overs, 0);
	assert_true(stream < 2 * STREAMS_MAX);
	struct closed_stream *s = &end->streams[stream];
	assert_false(s->done);
	*s = (struct closed_stream){ .done = true, .code = code, .in = in, .out = out };
	snprintf(s->text, sizeof s->text, "%s", text);
	end->closed++;
	leave(end, AT_CLOSED);
}

static void on_notice(void *user, unsigned code, int64_t at_ms, const char *reason)
{
	struct end *end = user;
	assert_int_equal(end->overs, 0);
	end->notices++;
	end->notice_code = code;
	end->notice_at = at_ms;
	snprintf(end->notice_reason, sizeof end->notice_reason, "%s", reason);
	leave(end, AT_NOTICE);
}

static void on_over(void *user, const struct endpoint_end *why)
{
	struct end *end = user;
	end->overs++;
	assert_int_equal(end->overs, 1);
	end->over = true;
	end->end = *why;
	leave(end, AT_OVER);
}

void harness_start(struct harness *h, struct end *end, enum link_role role, const char *relay_url)
{
	static const struct endpoint_callbacks callbacks = { .state = on_state,
							     .open = on_open,
							     .opened = on_opened,
							     .stream_closed = on_stream_closed,
							     .notice = on_notice,
							     .over = on_over };
	struct err e = { 0 };
	bool client = role == LINK_CLIENT;
	const char *servers[] = { h->no_servers ? NULL : h->url_rest, NULL };
	struct endpoint_config config = {
		.role = role,
		.session = "s-1",
		.token = client ? "client-token" : "target-token",
		.relay_url = relay_url,
		.server_urls = servers,
		.key = client ? h->client_key : h->target_key,
		.tls = h->tls,
		.proxy = "",
		.give_up_ms = h->give_up_ms,
	};
	key_pin(client ? h->target_key : h->client_key, config.peer_pin, NULL);
	end->h = h;
	if (!end->on_open)
		end->on_open = harness_echo;
	if (endpoint_start(&h->loop, &config, &callbacks, end, &end->ep, &e) != 0)
		fail_msg("%s", e.text);
}

void harness_start_both(struct harness *h)
{
	harness_start(h, &h->client, LINK_CLIENT, h->url_a);
	harness_start(h, &h->target, LINK_TARGET, h->url_a);
	HARNESS_UNTIL(h, h->client.up && h->target.up);
}

struct echo {
	struct harness *h;
	int fd;
};

static void *echo_thread(void *arg)
{
	struct echo *echo = arg;
	char bytes[32768];
	ssize_t n;
	while ((n = read(echo->fd, bytes, sizeof bytes)) > 0)
		for (ssize_t at = 0, one; at < n; at += one)
			if ((one = send(echo->fd, bytes + at, (size_t)(n - at), MSG_NOSIGNAL)) <= 0) {
				n = -1;
				break;
			}
	close(echo->fd);
	__atomic_sub_fetch(&echo->h->echoes, 1, __ATOMIC_RELEASE);
	free(echo);
	return NULL;
}

void harness_echo(struct end *end, uint32_t stream, const struct link_dest *dest)
{
	int pair[2];
	struct err e = { 0 };
	pthread_t thread;
	assert_string_equal(dest->host, harness_dest.host);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	struct echo *echo = malloc(sizeof *echo);
	*echo = (struct echo){ .h = end->h, .fd = pair[1] };
	__atomic_add_fetch(&end->h->echoes, 1, __ATOMIC_ACQUIRE);
	pthread_create(&thread, NULL, echo_thread, echo);
	pthread_detach(thread);
	if (endpoint_attach_fd(end->ep, stream, pair[0], pair[0], &e) != 0)
		fail_msg("%s", e.text);
}

static uint8_t pattern(const struct app *app, uint64_t at)
{
	return (uint8_t)((at * 2654435761u + app->seed) >> 7);
}

static void app_write(struct app *app)
{
	uint8_t bytes[20000];
	size_t n = 0;
	for (; n < sizeof bytes && app->written + n < app->total; n++)
		bytes[n] = pattern(app, app->written + n);
	ssize_t done = send(app->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (done > 0)
		app->written += (uint64_t)done;
	if (app->written == app->total)
		shutdown(app->fd, SHUT_WR);
}

static void *app_thread(void *arg)
{
	struct app *app = arg;
	uint8_t bytes[20000];
	app->equal = true;
	if (app->total == 0)
		shutdown(app->fd, SHUT_WR);
	for (;;) {
		struct pollfd p = { .fd = app->fd, .events = POLLIN };
		if (app->written < app->total)
			p.events |= POLLOUT;
		if (poll(&p, 1, 100000) <= 0)
			break;
		if (p.revents & POLLOUT)
			app_write(app);
		if (!(p.revents & (POLLIN | POLLHUP | POLLERR)))
			continue;
		ssize_t n = recv(app->fd, bytes, sizeof bytes, MSG_DONTWAIT);
		for (ssize_t i = 0; i < n; i++)
			app->equal = app->equal && bytes[i] == pattern(app, app->read + (uint64_t)i);
		if (n > 0)
			app->read += (uint64_t)n;
		app->saw_end = n == 0;
		if (n == 0 || (n < 0 && errno != EAGAIN))
			break;
	}
	close(app->fd);
	app->done = true;
	return NULL;
}

void app_start(struct app *app, int fd, uint64_t total, unsigned seed)
{
	memset(app, 0, sizeof *app);
	app->fd = fd;
	app->total = total;
	app->seed = seed;
	pthread_create(&app->thread, NULL, app_thread, app);
}

uint32_t harness_open_app(struct harness *h, struct app *app, uint64_t total, unsigned seed)
{
	int pair[2];
	uint32_t id = 0;
	struct err e = { 0 };
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	app_start(app, pair[1], total, seed);
	if (endpoint_open_stream(h->client.ep, &harness_dest, pair[0], pair[0], &id, &e) != 0)
		fail_msg("%s", e.text);
	return id;
}

void app_join(struct app *app)
{
	pthread_join(app->thread, NULL);
	assert_true(app->equal);
	assert_true(app->saw_end);
	assert_int_equal(app->read, app->total);
}
