/* A stream's way: judged by name → (TCP) looked up and judged by address, (SSH) an sshd started, (unix) connected, or
 * (listen) bound → handed to the endpoint and reported as opened → reported as closed. Only streams that were opened
 * are reported; refusals are told to the client and logged. A connection that came where the target listens for the
 * client is a stream the other way round: opened from here, with what is judged of the one that listens. */
#include "agent/streams.h"

#include "agent/hangup.h"
#include "agent/listening.h"
#include "agent/reach.h"
#include "agent/sshd.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/text.h"
#include "endpoint/unix_socket.h"

#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LISTENERS LIMIT_ALLOW  /* places where the target listens for one session: all that it may name */
#define LISTEN_CONNECTIONS 64u /* open at once of one of them */
/* How often it is looked what an sshd runs: a login starts its command soon, later ones are rare. */
#define LOOK_YOUNG_MS 100
#define LOOK_OLD_MS 1000
#define YOUNG_MS 10000
#define FROZEN "the target has been out of the control plane's reach for too long"

struct stream {
	struct list node;
	struct streams *owner;
	uint32_t id;
	struct link_dest dest;
	char endpoint[300]; /* "127.0.0.1:5432", "ssh" */
	struct reach *dial; /* while it is connected */
	struct sockaddr_storage peer;
	bool open;
	int64_t opened_ms;
	struct listening *listening; /* LISTEN */
	uint16_t bound;              /* LISTEN, ACCEPTED: the port there */
	unsigned connections;        /* LISTEN: that came and are open */
	bool full_told;              /* LISTEN: that more wait */
	struct link_dest at;         /* ACCEPTED: dest of the one that listens, whose id is listener */
	uint32_t listener;
};

struct child {
	struct list node;
	struct streams *owner;
	struct sshd *sshd;
	uint32_t stream;
	int64_t started_ms;
	struct hangup commands;
};

/* What is done with streams of one kind. */
struct kind {
	const char *name;
	void (*open)(struct stream *one);
	bool (*granted)(const struct streams *s, const struct stream *one); /* still */
	bool (*listed)(const struct streams *s, const struct stream *one);  /* still */
};
static const struct kind *kind_of(const struct stream *one);

struct streams {
	struct streams_config config;
	struct grant grant;
	struct endpoint *ep;
	struct list all, children;
	uv_timer_t *look; /* active while there are children */
	size_t count;
	size_t accepted; /* of them ACCEPTED */
	bool configured; /* sshd's configuration fits the grant */
	bool frozen;
};

int streams_new(const struct streams_config *config, const struct grant *grant, struct streams **out_streams,
		struct err *e)
{
	struct streams *s = calloc(1, sizeof *s);
	if (!s)
		return err_set(e, ERR_NOMEM, "out of memory");
	s->config = *config;
	s->grant = *grant;
	list_init(&s->all);
	list_init(&s->children);
	s->look = malloc(sizeof *s->look);
	if (!s->look) {
		free(s);
		return err_set(e, ERR_NOMEM, "out of memory");
	}
	uv_timer_init(config->loop, s->look);
	s->look->data = s;
	*out_streams = s;
	return 0;
}

void streams_set_endpoint(struct streams *s, struct endpoint *ep)
{
	s->ep = ep;
}

static struct stream *find(struct streams *s, uint32_t id)
{
	LIST_EACH(node, &s->all)
	{
		struct stream *one = LIST_ENTRY(node, struct stream, node);
		if (one->id == id)
			return one;
	}
	return NULL;
}

static void drop(struct stream *one)
{
	struct stream *listener = one->listener ? find(one->owner, one->listener) : NULL;
	if (listener)
		listener->connections--;
	one->owner->accepted -= one->dest.kind == LINK_KIND_ACCEPTED;
	listening_stop(&one->listening);
	reach_cancel(&one->dial);
	list_remove(&one->node);
	one->owner->count--;
	free(one);
}

static void log_stream(struct stream *one, enum log_level level, const char *what, const char *text)
{
	char id[16];
	snprintf(id, sizeof id, "%u", one->id);
	log_with(level,
		 FIELDS({ "session", one->owner->config.session }, { "stream", id }, { "endpoint", one->endpoint }),
		 "%s%s%s", what, *text ? ": " : "", text);
}

static void refuse(struct stream *one, unsigned code, const char *text)
{
	log_stream(one, code == LINK_NOT_ALLOWED ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, "stream refused", text);
	endpoint_refuse(one->owner->ep, one->id, code, text);
	drop(one);
}

static void report_opened(struct stream *one)
{
	struct streams *s = one->owner;
	one->open = true;
	one->opened_ms = clock_mono_ms();
	reports_add(s->config.reports,
		    json_pack("{s:s, s:s, s:I, s:I, s:s, s:s, s:I}", "type", "stream-opened", "session",
			      s->config.session, "generation", (json_int_t)s->config.generation, "stream",
			      (json_int_t)one->id, "kind", kind_of(one)->name, "endpoint", one->endpoint, "at_ms",
			      (json_int_t)clock_wall_ms()));
	log_stream(one, LOG_LEVEL_DEBUG, "stream opened", "");
}

static void attach(struct stream *one, int fd)
{
	struct err e = { 0 };
	if (endpoint_attach_fd(one->owner->ep, one->id, fd, fd, &e)) {
		log_stream(one, LOG_LEVEL_WARN, "stream lost", e.text); /* its client is gone */
		drop(one);
		return;
	}
	report_opened(one);
}

static void report_closed(struct stream *one, const char *reason, uint64_t bytes_in, uint64_t bytes_out)
{
	struct streams *s = one->owner;
	reports_add(s->config.reports,
		    json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:s}", "type", "stream-closed", "session",
			      s->config.session, "generation", (json_int_t)s->config.generation, "stream",
			      (json_int_t)one->id, "bytes_in", (json_int_t)bytes_in, "bytes_out", (json_int_t)bytes_out,
			      "duration_ms", (json_int_t)(clock_mono_ms() - one->opened_ms), "reason", reason));
	log_stream(one, LOG_LEVEL_DEBUG, "stream closed", reason);
}

/* --- TCP */

static void on_dialled(void *user, int fd, unsigned code, const char *text)
{
	struct stream *one = user;
	one->dial = NULL;
	socklen_t len = sizeof one->peer;
	if (fd < 0) {
		refuse(one, code, text);
		return;
	}
	if (one->owner->frozen) {
		close(fd);
		refuse(one, LINK_NOT_ALLOWED, FROZEN);
		return;
	}
	if (getpeername(fd, (struct sockaddr *)&one->peer, &len) != 0)
		one->peer.ss_family = AF_UNSPEC; /* gone already; no list holds that */
	attach(one, fd);
}

/* allow NULL: the host was allowed by its name, or by the administrator's own setting. */
static void connect_to(struct stream *one, const char *host, uint16_t port, const struct allow *allow)
{
	struct streams *s = one->owner;
	struct err e = { 0 };
	const struct dial_options options = {
		.host = host, .port = port, .allow = allow, .timeout_ms = s->config.settings->connect_timeout_ms
	};
	if (reach_start(s->config.loop, &options, on_dialled, one, &one->dial, &e))
		refuse(one, LINK_UNREACHABLE, e.text);
}

static void open_tcp(struct stream *one)
{
	struct streams *s = one->owner;
	const struct link_dest *dest = &one->dest;
	char text[200];
	enum allow_answer answer = allow_host(s->config.allow, dest->host, dest->port);
	if (!grant_allows_tcp(&s->grant, dest->host, dest->port)) {
		text_print(text, sizeof text, "the session does not include %.150s", one->endpoint);
		refuse(one, LINK_NOT_ALLOWED, text);
	} else if (answer == ALLOW_NO) {
		text_print(text, sizeof text, "the agent's allow list does not hold %.150s", one->endpoint);
		refuse(one, LINK_NOT_ALLOWED, text);
	} else {
		connect_to(one, dest->host, dest->port, answer == ALLOW_YES ? NULL : s->config.allow);
	}
}

static bool tcp_granted(const struct streams *s, const struct stream *one)
{
	return grant_allows_tcp(&s->grant, one->dest.host, one->dest.port);
}

static bool tcp_listed(const struct streams *s, const struct stream *one)
{
	enum allow_answer answer = allow_host(s->config.allow, one->dest.host, one->dest.port);
	if (answer == ALLOW_BY_ADDRESS && one->open)
		return allow_address(s->config.allow, (const struct sockaddr *)&one->peer, one->dest.port);
	return answer != ALLOW_NO;
}

/* --- SSH */

static void hang_up(struct child *c)
{
	char id[16];
	size_t count = hangup_now(&c->commands);
	snprintf(id, sizeof id, "%u", c->stream);
	if (count)
		log_with(LOG_LEVEL_INFO, FIELDS({ "session", c->owner->config.session }, { "stream", id }),
			 "%zu command(s) without a terminal still ran: hung up", count);
}

static void look_at(struct child *c)
{
	size_t before = c->commands.count;
	hangup_look(&c->commands, sshd_pid(c->sshd));
	if (c->commands.count != before)
		log_with(LOG_LEVEL_DEBUG, FIELDS({ "session", c->owner->config.session }),
			 "sshd runs %zu command(s) without a terminal", c->commands.count);
}

static void on_look(uv_timer_t *timer)
{
	struct streams *s = timer->data;
	int64_t now = clock_mono_ms();
	bool young = false;
	if (list_empty(&s->children))
		return;
	LIST_EACH(node, &s->children)
	{
		struct child *c = LIST_ENTRY(node, struct child, node);
		young |= now - c->started_ms < YOUNG_MS;
		look_at(c);
	}
	uv_timer_start(timer, on_look, young ? LOOK_YOUNG_MS : LOOK_OLD_MS, 0);
}

static void on_sshd_gone(void *user, struct sshd *sshd, int status)
{
	struct child *c = user;
	char id[16];
	(void)sshd;
	snprintf(id, sizeof id, "%u", c->stream);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		log_with(LOG_LEVEL_ERROR, FIELDS({ "session", c->owner->config.session }, { "stream", id }),
			 "cannot run %s", c->owner->config.settings->sshd_path);
	else if (WIFSIGNALED(status))
		log_with(LOG_LEVEL_WARN, FIELDS({ "session", c->owner->config.session }, { "stream", id }),
			 "sshd ended by signal %d", WTERMSIG(status));
	hang_up(c);
	sshd_free(&c->sshd);
	list_remove(&c->node);
	free(c);
}

static int start_sshd(struct stream *one, int *out_fd, struct err *e)
{
	struct streams *s = one->owner;
	int rc = s->configured ? 0 : sshd_configure(s->config.settings, s->config.name, &s->grant, e);
	if (rc)
		return rc;
	s->configured = true;
	struct child *c = calloc(1, sizeof *c);
	if (!c)
		return err_set(e, ERR_NOMEM, "out of memory");
	rc = sshd_start(s->config.loop, s->config.settings, s->config.name, one->id, on_sshd_gone, c, &c->sshd, out_fd,
			e);
	if (rc) {
		free(c);
		return rc;
	}
	c->owner = s, c->stream = one->id;
	c->started_ms = clock_mono_ms();
	uv_timer_start(s->look, on_look, LOOK_YOUNG_MS, 0);
	list_append(&s->children, &c->node);
	return 0;
}

static void open_ssh(struct stream *one)
{
	struct streams *s = one->owner;
	struct err e = { 0 };
	char host[254];
	uint16_t port;
	int fd = -1, rc = 0;
	if (!s->grant.ssh)
		refuse(one, LINK_NOT_ALLOWED, "the session does not include SSH");
	else if (!allow_ssh(s->config.allow))
		refuse(one, LINK_NOT_ALLOWED, "the agent's allow list does not hold \"ssh\"");
	else if (text_parse_host_port(s->config.settings->ssh, host, sizeof host, &port) == 0)
		connect_to(one, host, port, NULL);
	else if ((rc = start_sshd(one, &fd, &e)) != 0)
		refuse(one, rc == ERR_DENIED ? LINK_NOT_ALLOWED : LINK_INTERNAL, e.text);
	else
		attach(one, fd);
}

static bool ssh_granted(const struct streams *s, const struct stream *one)
{
	(void)one;
	return s->grant.ssh && s->grant.login_count > 0;
}

static bool ssh_listed(const struct streams *s, const struct stream *one)
{
	(void)one;
	return allow_ssh(s->config.allow);
}

/* --- unix sockets */

static bool socket_granted(const struct streams *s, const struct stream *one)
{
	return grant_allows_socket(&s->grant, one->dest.host);
}

static bool socket_listed(const struct streams *s, const struct stream *one)
{
	return allow_socket(s->config.allow, one->dest.host);
}

static void open_socket(struct stream *one)
{
	struct streams *s = one->owner;
	char text[200];
	unsigned code;
	if (!socket_granted(s, one)) {
		text_print(text, sizeof text, "the session does not include %s", one->endpoint);
		refuse(one, LINK_NOT_ALLOWED, text);
		return;
	}
	if (!socket_listed(s, one)) {
		text_print(text, sizeof text, "the agent's allow list does not hold %s", one->endpoint);
		refuse(one, LINK_NOT_ALLOWED, text);
		return;
	}
	int fd = unix_socket_connect(one->dest.host, &code, text, sizeof text);
	if (fd < 0)
		refuse(one, code, text);
	else
		attach(one, fd);
}

/* --- listening for the client */

static bool listen_granted(const struct streams *s, const struct stream *one)
{
	return grant_allows_listen(&s->grant, one->dest.host, one->dest.port);
}

/* Before it is bound: with the port that was asked for, which may be any. */
static bool listen_listed(const struct streams *s, const struct stream *one)
{
	return allow_listen(s->config.allow, one->dest.host, one->bound ? one->bound : one->dest.port);
}

static bool accepted_granted(const struct streams *s, const struct stream *one)
{
	return grant_allows_listen(&s->grant, one->at.host, one->at.port);
}

static bool accepted_listed(const struct streams *s, const struct stream *one)
{
	return allow_listen(s->config.allow, one->at.host, one->bound);
}

/* An entry of the grant with port 0 may be asked for again and again. */
static bool listens_enough(const struct streams *s)
{
	size_t n = 0;
	LIST_EACH(node, &s->all)
	{
		const struct stream *one = LIST_ENTRY(node, struct stream, node);
		n += one->listening != NULL;
	}
	return n >= LISTENERS;
}

/* Programs at the target leave half of the session's streams to the client. */
static size_t most_accepted(const struct streams *s)
{
	return (s->grant.max_streams + 1) / 2;
}

/* Which limit holds connections up is logged once, until one was taken again. */
static bool has_no_room(void *user)
{
	struct stream *one = user;
	const struct streams *s = one->owner;
	char text[100] = "";
	if (one->connections >= LISTEN_CONNECTIONS)
		text_print(text, sizeof text, "%u came there and are open, more are not allowed", LISTEN_CONNECTIONS);
	else if (s->accepted >= most_accepted(s))
		text_print(text, sizeof text, "%zu connections that came to the target are open, more are not allowed",
			   s->accepted);
	else if (s->count >= s->grant.max_streams)
		text_print(text, sizeof text, "the session has %u streams, more are not allowed", s->grant.max_streams);
	if (text[0] && !one->full_told)
		log_stream(one, LOG_LEVEL_WARN, "further connections wait", text);
	one->full_told = text[0];
	return text[0] || s->frozen;
}

static void name_accepted(struct stream *one, const struct stream *listener, int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof peer;
	char host[64] = "?", port[8] = "0", from[80];
	if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0)
		(void)getnameinfo((const struct sockaddr *)&peer, len, host, sizeof host, port, sizeof port,
				  NI_NUMERICHOST | NI_NUMERICSERV);
	text_host_port(host, (uint16_t)strtoul(port, NULL, 10), from, sizeof from);
	text_print(one->endpoint, sizeof one->endpoint, "%s from %s", listener->endpoint, from);
}

static void on_connection(void *user, int fd)
{
	struct stream *listener = user, *one = calloc(1, sizeof *one);
	struct streams *s = listener->owner;
	struct err e = { 0 };
	if (!one) {
		close(fd);
		return;
	}
	one->owner = s, one->listener = listener->id, one->at = listener->dest, one->bound = listener->bound;
	one->dest.kind = LINK_KIND_ACCEPTED;
	text_print(one->dest.host, sizeof one->dest.host, "%u", listener->id);
	name_accepted(one, listener, fd);
	if (endpoint_open_stream(s->ep, &one->dest, fd, fd, &one->id, &e)) {
		log_stream(one, LOG_LEVEL_WARN, "connection dropped", e.text);
		free(one);
		return;
	}
	list_append(&s->all, &one->node);
	s->count++;
	s->accepted++;
	listener->connections++;
	report_opened(one);
}

/* 0, or a code, with words for the client. */
static unsigned start_listening(struct stream *one, int *out_fd, char *text, size_t size)
{
	struct streams *s = one->owner;
	const struct listening_user user = { .take = on_connection, .full = has_no_room, .user = one };
	struct err e = { 0 };
	unsigned code;
	int fd = listening_bind(one->dest.host, one->dest.port, &one->bound, &code, text, size);
	if (fd < 0)
		return code;
	if (!listen_listed(s, one)) {
		text_print(text, size, "the agent's allow list does not hold port %u, which was free", one->bound);
		close(fd);
		return LINK_NOT_ALLOWED;
	}
	int rc = listening_start(s->config.loop, fd, one->bound, &user, &one->listening, out_fd, &e);
	text_print(text, size, "%s", e.text);
	return rc == 0 ? LINK_OK : rc == ERR_CONFLICT ? LINK_REFUSED : LINK_IO;
}

static void open_listen(struct stream *one)
{
	struct streams *s = one->owner;
	char text[200], place[100];
	int fd = -1;
	unsigned code = LINK_NOT_ALLOWED;
	if (!listen_granted(s, one)) {
		text_print(text, sizeof text, "the session does not include %s", one->endpoint);
	} else if (!listen_listed(s, one)) {
		text_print(text, sizeof text, "the agent's allow list does not hold %s", one->endpoint);
	} else if (listens_enough(s)) {
		code = LINK_LIMIT;
		text_print(text, sizeof text, "the session has the target listen at %u places, more are not allowed",
			   LISTENERS);
	} else {
		code = start_listening(one, &fd, text, sizeof text);
	}
	if (code != LINK_OK) {
		refuse(one, code, text);
		return;
	}
	text_host_port(one->dest.host, one->bound, place, sizeof place);
	text_print(one->endpoint, sizeof one->endpoint, "listen:%s", place);
	attach(one, fd);
}

/* --- the kinds */

static const struct kind kinds[] = {
	[LINK_KIND_SSH] = { "ssh", open_ssh, ssh_granted, ssh_listed },
	[LINK_KIND_TCP] = { "tcp", open_tcp, tcp_granted, tcp_listed },
	[LINK_KIND_UNIX] = { "unix", open_socket, socket_granted, socket_listed },
	[LINK_KIND_LISTEN] = { "listen", open_listen, listen_granted, listen_listed },
	[LINK_KIND_ACCEPTED] = { "accepted", NULL, accepted_granted, accepted_listed }, /* opened from here alone */
};

static const struct kind *kind_of(const struct stream *one)
{
	return &kinds[one->dest.kind];
}

static bool is_known(const struct link_dest *dest)
{
	return (size_t)dest->kind < sizeof kinds / sizeof *kinds && kinds[dest->kind].open;
}

/* --- the endpoint's callbacks */

static void name_endpoint(struct stream *one)
{
	char place[sizeof one->dest.host + 10];
	text_host_port(one->dest.host, one->dest.port, place, sizeof place);
	if (one->dest.kind == LINK_KIND_SSH)
		strcpy(one->endpoint, "ssh");
	else if (one->dest.kind == LINK_KIND_UNIX)
		text_print(one->endpoint, sizeof one->endpoint, "unix:%s", one->dest.host);
	else
		text_print(one->endpoint, sizeof one->endpoint, "%s%s",
			   one->dest.kind == LINK_KIND_LISTEN ? "listen:" : "", place);
}

void streams_open(struct streams *s, uint32_t id, const struct link_dest *dest)
{
	if (!is_known(dest)) {
		endpoint_refuse(s->ep, id, LINK_NOT_ALLOWED, "unknown kind of stream");
		return;
	}
	struct stream *one = find(s, id) ? NULL : calloc(1, sizeof *one);
	if (!one) {
		endpoint_refuse(s->ep, id, LINK_INTERNAL, "out of memory");
		return;
	}
	one->owner = s, one->id = id, one->dest = *dest;
	name_endpoint(one);
	list_append(&s->all, &one->node);
	s->count++;
	if (s->frozen)
		refuse(one, LINK_NOT_ALLOWED, FROZEN);
	else if (s->count > s->grant.max_streams)
		refuse(one, LINK_LIMIT, "the session has as many streams as it may have");
	else if (s->grant.expires_at_ms <= clock_mono_ms() + *s->config.server_clock_ms)
		refuse(one, LINK_EXPIRED, "the session's time is over");
	else
		kind_of(one)->open(one);
}

void streams_closed(struct streams *s, uint32_t id, unsigned code, const char *text, uint64_t bytes_in,
		    uint64_t bytes_out)
{
	struct stream *one = find(s, id);
	if (!one)
		return;
	char reason[256];
	text_print(reason, sizeof reason, "%s%s%s", link_code_name(code), text && *text ? ": " : "", text ? text : "");
	if (one->open)
		report_closed(one, reason, bytes_in, bytes_out);
	drop(one);
}

/* Was something taken away that a running sshd may have let in? Then no SSH stream of the session is safe. */
static bool ssh_shrunk(const struct grant *old, const struct grant *now)
{
	if (old->ssh_forwarding && !now->ssh_forwarding)
		return true;
	for (size_t i = 0; i < old->login_count; i++) {
		bool kept = false;
		for (size_t k = 0; k < now->login_count && !kept; k++)
			kept = strcmp(old->logins[i], now->logins[k]) == 0;
		if (!kept)
			return true;
	}
	return false;
}

static void take_away(struct stream *one, const char *why)
{
	log_stream(one, LOG_LEVEL_WARN, "stream reset", why);
	if (one->open) /* its streams_closed comes from inside this call, with the bytes it carried */
		endpoint_reset_stream(one->owner->ep, one->id, LINK_TERMINATED, why);
	else
		refuse(one, LINK_NOT_ALLOWED, why);
}

void streams_freeze(struct streams *s, bool frozen)
{
	s->frozen = frozen;
}

void streams_set_grant(struct streams *s, const struct grant *grant)
{
	bool drop_ssh = ssh_shrunk(&s->grant, grant);
	s->grant = *grant;
	s->configured = false;
	LIST_EACH_SAFE(node, after, &s->all)
	{
		struct stream *one = LIST_ENTRY(node, struct stream, node);
		if (kind_of(one)->granted(s, one) && !(drop_ssh && one->dest.kind == LINK_KIND_SSH))
			continue;
		take_away(one, "policy no longer allows it");
	}
}

void streams_set_allow(struct streams *s, const struct allow *allow)
{
	s->config.allow = allow;
	s->configured = false;
	LIST_EACH_SAFE(node, after, &s->all)
	{
		struct stream *one = LIST_ENTRY(node, struct stream, node);
		bool dialling = one->dial && one->dest.kind == LINK_KIND_TCP;
		if (dialling)
			reach_cancel(&one->dial); /* it holds the old list */
		if (!kind_of(one)->listed(s, one))
			take_away(one, "the agent's allow list no longer holds it");
		else if (dialling)
			open_tcp(one); /* anew: its addresses are judged by the new list */
	}
}

static void hang_up_all(struct streams *s)
{
	LIST_EACH(node, &s->children)
	{
		struct child *c = LIST_ENTRY(node, struct child, node);
		look_at(c);
		hang_up(c);
	}
}

void streams_end(struct streams *s, const char *reason)
{
	LIST_EACH_SAFE(node, after, &s->all)
	{
		struct stream *one = LIST_ENTRY(node, struct stream, node);
		if (one->open)
			report_closed(one, reason, 0, 0);
		drop(one);
	}
	hang_up_all(s);
}

void streams_reap(struct streams *s)
{
	LIST_EACH_SAFE(node, after, &s->children)
	{
		struct child *c = LIST_ENTRY(node, struct child, node);
		sshd_reap(c->sshd);
	}
}

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle);
}

void streams_free(struct streams **streams)
{
	struct streams *s = *streams;
	*streams = NULL;
	if (!s)
		return;
	LIST_EACH_SAFE(node, after, &s->all)
	drop(LIST_ENTRY(node, struct stream, node));
	LIST_EACH_SAFE(node, after, &s->children)
	{
		struct child *c = LIST_ENTRY(node, struct child, node);
		sshd_free(&c->sshd);
		list_remove(&c->node);
		free(c);
	}
	uv_close((uv_handle_t *)s->look, on_timer_closed);
	free(s);
}
