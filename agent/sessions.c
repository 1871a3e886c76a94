/* A worker is alive while its socket answers; nothing else is trusted, no pid, no table on disk. When a channel breaks
 * the socket is tried again, and only a refused connection means that the worker is gone. Then its exit record speaks
 * for it, or, without one, the supervisor reports that it died. Reports reach the spool's disk before the worker may
 * forget them and before its files are removed: when the spool does not take one, nothing behind it is taken either,
 * and the worker is asked again later.
 *
 * The server says a grant or an end once for each of our connections to it. So they are kept here, and said to the
 * worker on each channel anew: what an order takes away must not stay because a channel was down, or broke behind it.
 *
 * A session that another client resumed has two workers for a moment: the one of the earlier generation is superseded.
 * It is told so, reports its streams and leaves; it is the session's to nobody any more. */
#include "agent/sessions.h"

#include "agent/allow.h"
#include "agent/channel.h"
#include "agent/exits.h"
#include "agent/grant.h"
#include "agent/name.h"
#include "agent/worker_spawn.h"
#include "base/file.h"
#include "base/json.h"
#include "base/list.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/text.h"
#include "link/link.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CLOSE_INTERNAL 4010 /* PROTOCOL.md, section 3 */
#define AGAIN_MS 2000       /* until a worker or a spool that could not be reached is tried again */

/* What the worker was last told to do, of each kind. */
enum order { ORDER_GRANT, ORDER_TERMINATE, ORDERS };

struct session {
	struct list node;
	struct sessions *owner;
	char id[LIMIT_ID + 1], name[WORKER_NAME];
	int64_t generation;
	struct channel *channel;
	bool greeted;           /* its worker has said hello on this channel */
	bool offered;           /* an offer waits for the worker's hello */
	bool ended;             /* its session-closed is in the spool */
	bool superseded;        /* there is a higher generation */
	bool troubled;          /* it was logged that its reports cannot be kept */
	json_t *orders[ORDERS]; /* NULL: none yet */
	bool answered;          /* the server was told that it is terminated */
	uint64_t acked;
	char problem[256]; /* why the worker could not start, in its own words */
};

struct sessions {
	uv_loop_t *loop;
	const struct settings *settings;
	const char *target;
	struct spool *spool;
	struct allow *allow;
	int folder; /* runtime_dir, held for this supervisor alone */
	struct list all;
	size_t count;
	uv_timer_t *again; /* active while a session has no channel */
	bool control_up;
	int64_t server_clock_ms; /* as of the last welcome, see job.h */
	struct sessions_callbacks callbacks;
	void *user;
};

static struct session *find(const struct sessions *s, const char *id)
{
	LIST_EACH(node, &s->all)
	{
		struct session *one = LIST_ENTRY(node, struct session, node);
		if (strcmp(one->id, id) == 0 && !one->superseded)
			return one;
	}
	return NULL;
}

static struct session *find_name(const struct sessions *s, const char *name)
{
	LIST_EACH(node, &s->all)
	{
		struct session *one = LIST_ENTRY(node, struct session, node);
		if (strcmp(one->name, name) == 0)
			return one;
	}
	return NULL;
}

static struct session *add(struct sessions *s, const char *id, int64_t generation)
{
	struct session *one = calloc(1, sizeof *one);
	if (!one)
		return NULL;
	snprintf(one->id, sizeof one->id, "%s", id);
	name_make(id, generation, one->name);
	one->generation = generation;
	one->owner = s;
	list_append(&s->all, &one->node);
	s->count++;
	return one;
}

static void drop(struct session *one)
{
	channel_free(&one->channel);
	for (size_t i = 0; i < ORDERS; i++)
		json_decref(one->orders[i]);
	list_remove(&one->node);
	one->owner->count--;
	free(one);
}

static int64_t generation_of(const json_t *message)
{
	const json_t *generation = json_object_get(message, "generation");
	return generation ? json_integer_value(generation) : 1;
}

/* The server ordered the end and waits for it: nothing of it runs any more. */
static void answer_terminate(struct session *one)
{
	if (!one->orders[ORDER_TERMINATE] || one->answered)
		return;
	one->answered = true;
	one->owner->callbacks.terminated(one->owner->user, one->id);
}

/* One report of the session's worker into the spool. */
static int take_report(struct session *one, const json_t *wrapped, struct err *e)
{
	const json_t *body = json_object_get(wrapped, "body");
	const char *type = json_string_value(json_object_get(body, "type"));
	const char *session = json_string_value(json_object_get(body, "session"));
	json_int_t number = json_integer_value(json_object_get(wrapped, "n"));
	if (!type || !session || strcmp(session, one->id) != 0 || generation_of(body) != one->generation || number < 1)
		return err_set(e, ERR_PROTOCOL, "malformed report");
	bool closed = strcmp(type, "session-closed") == 0;
	if (closed && one->superseded)
		return 0; /* its session goes on */
	int rc = spool_add(one->owner->spool, one->name, (uint64_t)number, body, e);
	if (!rc && closed) {
		one->ended = true;
		answer_terminate(one);
	}
	return rc;
}

static int report_death(struct session *one, struct err *e)
{
	json_auto_t *wrapped =
		json_pack("{s:I, s:{s:s, s:s, s:I, s:i, s:s}}", "n",
			  (json_int_t)spool_last_number(one->owner->spool, one->name) + 1, "body", "type",
			  "session-closed", "session", one->id, "generation", (json_int_t)one->generation, "code",
			  CLOSE_INTERNAL, "text", "the agent's worker for this session died");
	return wrapped ? take_report(one, wrapped, e) : err_set(e, ERR_NOMEM, "out of memory");
}

/* 0: they are in the spool, or never will be. */
static int take_exit_record(struct session *one, const json_t *reports, struct err *e)
{
	for (size_t i = 0; i < json_array_size(reports); i++) {
		int rc = take_report(one, json_array_get(reports, i), e);
		if (rc && rc != ERR_PROTOCOL)
			return rc;
		if (rc)
			log_with(LOG_LEVEL_ERROR, FIELDS({ "session", one->id }), "report lost: %s", e->text);
	}
	return 0;
}

static void on_again(uv_timer_t *timer);

static void try_again_later(struct session *one, const struct err *e)
{
	if (!one->troubled)
		log_with(LOG_LEVEL_ERROR, FIELDS({ "session", one->id }), "%s; trying again", e->text);
	one->troubled = true;
	if (!uv_is_active((uv_handle_t *)one->owner->again))
		uv_timer_start(one->owner->again, on_again, AGAIN_MS, 0);
}

static void give_channel_up(struct session *one, const struct err *e)
{
	channel_free(&one->channel);
	try_again_later(one, e);
}

static void on_dead(struct session *one)
{
	struct sessions *s = one->owner;
	json_t *reports = NULL;
	struct err e = { 0 };
	int rc = exits_read(s->settings->runtime_dir, one->name, &reports, &e);
	if (rc == 0) {
		rc = take_exit_record(one, reports, &e);
		json_decref(reports);
	} else if (rc != ERR_NOT_FOUND) {
		err_wrap(&e, "its exit record");
	} else if (one->offered && !one->superseded) {
		one->offered = false;
		one->ended = true;
		rc = 0;
		s->callbacks.refused(s->user, one->id, one->generation, LINK_INTERNAL,
				     *one->problem ? one->problem : "the agent could not start a worker");
	} else if (!one->ended && !one->superseded) {
		log_with(LOG_LEVEL_ERROR, FIELDS({ "session", one->id }), "its worker died without an exit record");
		rc = report_death(one, &e);
	} else {
		rc = 0;
	}
	if (rc == 0)
		rc = spool_sync(s->spool, &e);
	if (rc) {
		try_again_later(one, &e);
		return;
	}
	exits_remove(s->settings->runtime_dir, one->name);
	spool_forget(s->spool, one->name);
	log_with(LOG_LEVEL_DEBUG, FIELDS({ "session", one->id }), "worker gone");
	answer_terminate(one);
	drop(one);
}

/* A descriptor; ERR_NOT_FOUND: nobody is there; other errors tell nothing about the worker. Never waits: the queue of a
 * worker that stands still may be full. */
static int connect_worker(const char *runtime_dir, const char *name, struct err *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char path[EXITS_PATH];
	int rc = exits_path(runtime_dir, name, "sock", path, e);
	if (rc || strlen(path) >= sizeof address.sun_path)
		return err_set(e, ERR_NOT_FOUND, "%s: too long for a socket's name", path);
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
		return fd;
	bool gone = fd >= 0 && (errno == ECONNREFUSED || errno == ENOENT);
	rc = err_set_errno(e, gone ? ERR_NOT_FOUND : ERR_IO, errno, "%s", path);
	if (fd >= 0)
		close(fd);
	return rc;
}

/* Something else answers in the worker's place. The server learns from our silence about the session. */
static void turn_away(struct session *one, const char *why)
{
	log_with(LOG_LEVEL_WARN, FIELDS({ "session", one->id }), "its socket is not a worker's, %s: removed", why);
	exits_remove(one->owner->settings->runtime_dir, one->name);
	drop(one);
}

static void on_message(void *user, json_t *message)
{
	struct session *one = user;
	struct err e = { 0 };
	const char *type = json_string_value(json_object_get(message, "type"));
	if (type && strcmp(type, "hello") == 0) {
		const char *session = json_string_value(json_object_get(message, "session"));
		if (!session || strcmp(session, one->id) != 0 || generation_of(message) != one->generation) {
			turn_away(one, "it speaks for another session");
			return;
		}
		one->greeted = true;
		if (one->offered && !one->superseded)
			one->owner->callbacks.accepted(one->owner->user, one->id, one->generation);
		one->offered = false;
	} else if (type && strcmp(type, "failed") == 0) {
		const char *text = json_string_value(json_object_get(message, "text"));
		text_print(one->problem, sizeof one->problem, "%s", text ? text : "");
	} else if (type && strcmp(type, "report") == 0) {
		int rc = take_report(one, message, &e);
		if (rc == ERR_PROTOCOL) {
			log_with(LOG_LEVEL_ERROR, FIELDS({ "session", one->id }), "report not kept: %s", e.text);
		} else if (rc) {
			/* What follows it must not be acknowledged before it. The worker repeats them all. */
			give_channel_up(one, &e);
		} else {
			one->troubled = false;
		}
	}
}

static int attach(struct session *one, int fd, struct err *e);

static void tell_settings(struct session *one)
{
	json_auto_t *message =
		json_pack("{s:s, s:o}", "type", "settings", "settings", job_settings(one->owner->settings));
	if (!message || channel_send(one->channel, message))
		log_with(LOG_LEVEL_ERROR, FIELDS({ "session", one->id }), "its worker keeps its old settings");
}

static void tell_superseded(struct session *one)
{
	json_auto_t *message = json_pack("{s:s}", "type", "superseded");
	if (message)
		channel_send(one->channel, message); /* a lost one is repeated when its channel is made anew */
}

static void tell_control(struct session *one)
{
	const struct sessions *s = one->owner;
	json_auto_t *message = json_pack("{s:s, s:b}", "type", "control", "up", (int)s->control_up);
	if (message && s->control_up)
		json_object_set_new(message, "server_clock_ms", json_integer((json_int_t)s->server_clock_ms));
	if (message)
		channel_send(one->channel, message); /* a lost one is repeated when its channel is made anew */
}

void sessions_control(struct sessions *s, bool up, int64_t server_clock_ms)
{
	if (s->control_up == up)
		return;
	s->control_up = up;
	s->server_clock_ms = server_clock_ms;
	LIST_EACH(node, &s->all)
	{
		struct session *one = LIST_ENTRY(node, struct session, node);
		if (one->channel)
			tell_control(one);
	}
}

/* Without a channel they wait for the next one. */
static void tell_order(struct session *one, enum order order)
{
	struct err e = { 0 };
	if (!one->channel || !one->orders[order] || channel_send(one->channel, one->orders[order]) == 0)
		return;
	err_set(&e, ERR_CLOSED, "its worker does not take what the server ordered");
	give_channel_up(one, &e);
}

/* To the worker's socket, or its end, or another try later. */
static void reach_worker(struct session *one)
{
	struct err e = { 0 };
	int fd = connect_worker(one->owner->settings->runtime_dir, one->name, &e);
	int rc = fd < 0 ? fd : attach(one, fd, &e);
	if (rc == ERR_NOT_FOUND)
		on_dead(one);
	else if (rc == ERR_DENIED)
		turn_away(one, e.text);
	else if (rc)
		try_again_later(one, &e);
}

static void on_again(uv_timer_t *timer)
{
	struct sessions *s = timer->data;
	LIST_EACH_SAFE(node, after, &s->all)
	{
		struct session *one = LIST_ENTRY(node, struct session, node);
		if (!one->channel)
			reach_worker(one);
	}
}

static void on_channel_closed(void *user, const char *why)
{
	struct session *one = user;
	bool spoke = one->greeted;
	log_with(LOG_LEVEL_DEBUG, FIELDS({ "session", one->id }), "worker's channel: %s", why);
	channel_free(&one->channel);
	one->greeted = false;
	if (spoke) {
		reach_worker(one);
	} else if (one->offered) {
		on_dead(one);
	} else {
		struct err e = { 0 };
		err_set(&e, ERR_CLOSED, "its worker does not answer: %s", why);
		try_again_later(one, &e);
	}
}

static int attach(struct session *one, int fd, struct err *e)
{
	static const struct channel_callbacks callbacks = { .message = on_message, .closed = on_channel_closed };
	one->acked = 0; /* what it was told last may have been lost */
	int rc = channel_new(one->owner->loop, fd, &callbacks, one, &one->channel, e);
	if (!rc && one->superseded)
		tell_superseded(one);
	else if (!rc && !one->offered) /* they may have changed while there was no supervisor */
		tell_settings(one);
	if (!rc)
		tell_control(one);
	for (enum order order = 0; !rc && order < ORDERS; order++)
		tell_order(one, order);
	return rc;
}

/* A worker's name from "<name>.sock" or "<name>.exit". */
static bool name_of_file(const char *file, char out[WORKER_NAME], char out_id[LIMIT_ID + 1], int64_t *out_generation)
{
	const char *dot = strrchr(file, '.');
	size_t len = dot ? (size_t)(dot - file) : 0;
	if (len == 0 || len >= WORKER_NAME || (strcmp(dot, ".sock") != 0 && strcmp(dot, ".exit") != 0))
		return false;
	memcpy(out, file, len);
	out[len] = '\0';
	return name_parse(out, out_id, out_generation);
}

static void supersede(struct session *old)
{
	if (old->superseded)
		return;
	old->superseded = true;
	log_with(LOG_LEVEL_INFO, FIELDS({ "session", old->id }),
		 "resumed by another client: the worker of generation %lld ends", (long long)old->generation);
	if (old->channel)
		tell_superseded(old);
}

static void adopt(struct sessions *s, const char *name, const char *id, int64_t generation)
{
	struct session *other = find(s, id);
	struct session *one = find_name(s, name) ? NULL : add(s, id, generation);
	if (!one)
		return;
	if (other && other->generation < generation)
		supersede(other);
	else if (other)
		supersede(one);
	reach_worker(one);
	one = find_name(s, name);
	if (one && one->channel)
		log_with(LOG_LEVEL_INFO, FIELDS({ "session", id }), "worker adopted");
}

/* What poses as a worker's file and is none is removed: it could make us wait, or stand in a later worker's way. */
static bool is_genuine(int folder, const char *file)
{
	struct stat st;
	bool socket = strcmp(strrchr(file, '.'), ".sock") == 0;
	if (fstatat(folder, file, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return false; /* gone with its worker a moment ago */
	if (st.st_uid == geteuid() && (socket ? S_ISSOCK(st.st_mode) : S_ISREG(st.st_mode)))
		return true;
	const char *why = st.st_uid != geteuid() ? "it belongs to another user"
			  : socket               ? "it is no socket"
						 : "it is no regular file";
	bool removed = unlinkat(folder, file, 0) == 0;
	log_warn("runtime_dir: %s is not a worker's, %s: %s", file, why, removed ? "removed" : "left alone");
	return false;
}

static int adopt_all(struct sessions *s, struct err *e)
{
	DIR *dir = opendir(s->settings->runtime_dir);
	if (!dir)
		return err_set_errno(e, ERR_IO, errno, "runtime_dir: %s", s->settings->runtime_dir);
	char name[WORKER_NAME], id[LIMIT_ID + 1];
	int64_t generation;
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		if (name_of_file(entry->d_name, name, id, &generation) && is_genuine(dirfd(dir), entry->d_name))
			adopt(s, name, id, generation);
	}
	closedir(dir);
	return 0;
}

static bool is_here(const void *sessions, const char *name)
{
	return find_name(sessions, name) != NULL;
}

/* Whoever may write there could pose as a worker. */
static int check_runtime_dir(const char *path, struct err *e)
{
	struct stat st;
	int rc = file_mkdir(path, 0700, e);
	if (rc)
		return err_wrap(e, "runtime_dir");
	if (stat(path, &st) != 0)
		return err_set_errno(e, ERR_IO, errno, "runtime_dir: %s", path);
	if (st.st_uid != geteuid() || st.st_mode & 022)
		return err_set(e, ERR_DENIED,
			       "runtime_dir: %s must belong to uid %u and be writable by nobody else (it is uid %u, "
			       "mode %04o)",
			       path, (unsigned)geteuid(), (unsigned)st.st_uid, (unsigned)(st.st_mode & 07777));
	return 0;
}

/* Another agent, with a state folder of its own, would take the workers in it for its own. */
static int hold_runtime_dir(const char *path, int *out_fd, struct err *e)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_set_errno(e, ERR_IO, errno, "runtime_dir: %s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
		close(fd);
		return err_set(e, ERR_CONFLICT, "runtime_dir: %s is another agent's; each needs one of its own", path);
	}
	*out_fd = fd;
	return 0;
}

int sessions_new(uv_loop_t *loop, const struct settings *settings, const char *target, struct spool *spool,
		 const struct sessions_callbacks *callbacks, void *user, struct sessions **out_sessions, struct err *e)
{
	struct sessions *s = calloc(1, sizeof *s);
	if (!s)
		return err_set(e, ERR_NOMEM, "out of memory");
	list_init(&s->all);
	s->folder = -1;
	s->loop = loop, s->settings = settings, s->target = target, s->spool = spool;
	s->callbacks = *callbacks, s->user = user;
	s->again = malloc(sizeof *s->again);
	if (!s->again) {
		free(s);
		return err_set(e, ERR_NOMEM, "out of memory");
	}
	uv_timer_init(loop, s->again);
	s->again->data = s;
	int rc = allow_parse(settings->allow.at, settings->allow.n, &s->allow, e);
	if (!rc)
		rc = check_runtime_dir(settings->runtime_dir, e);
	if (!rc)
		rc = hold_runtime_dir(settings->runtime_dir, &s->folder, e);
	if (!rc)
		rc = adopt_all(s, e);
	if (!rc)
		spool_forget_others(spool, is_here, s); /* those that ended with the machine */
	if (rc)
		sessions_free(&s);
	else
		*out_sessions = s;
	return rc;
}

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle);
}

void sessions_free(struct sessions **sessions)
{
	struct sessions *s = *sessions;
	*sessions = NULL;
	if (!s)
		return;
	LIST_EACH_SAFE(node, after, &s->all)
	drop(LIST_ENTRY(node, struct session, node));
	uv_close((uv_handle_t *)s->again, on_timer_closed);
	allow_free(&s->allow);
	if (s->folder >= 0)
		close(s->folder);
	free(s);
}

static bool serves_some(const struct allow *allow, const struct grant *grant)
{
	if (grant->tcp_any && allow_tcp(allow))
		return true;
	for (size_t i = 0; i < grant->tcp_count; i++)
		if (allow_host(allow, grant->tcp[i].host, grant->tcp[i].port) != ALLOW_NO)
			return true;
	for (size_t i = 0; i < grant->socket_count; i++)
		if (allow_socket(allow, grant->sockets[i]))
			return true;
	for (size_t i = 0; i < grant->listen_count; i++)
		if (allow_listen(allow, grant->listen[i].host, grant->listen[i].port))
			return true;
	return false;
}

/* Early words for what the worker would refuse stream by stream. 0, or ERR_DENIED. */
static int judge(const struct sessions *s, const struct offer *offer, struct err *e)
{
	struct grant grant;
	int rc = grant_parse(offer->grant, &grant, e);
	if (rc)
		return rc;
	if (strcmp(offer->kind, "ssh") == 0)
		return allow_ssh(s->allow) ? 0
					   : err_set(e, ERR_DENIED,
						     "not-allowed: the target's allow list (allow in its agent.conf) "
						     "has no \"ssh\"");
	if (serves_some(s->allow, &grant))
		return 0;
	char first[300] = "";
	grant_first(&grant, first, sizeof first);
	return err_set(
		e, ERR_DENIED,
		"not-allowed: the target's allow list (allow in its agent.conf) holds nothing that the session is "
		"for, such as %s",
		first);
}

static int start(struct sessions *s, const struct offer *offer, json_t *server_urls, struct err *e)
{
	int fd = -1;
	if (s->count >= LIMIT_AGENT_SESSIONS)
		return err_set(e, ERR_LIMIT, "the agent runs %zu sessions already", s->count);
	struct offer now = *offer;
	now.server_clock_ms = s->server_clock_ms;
	char *job = job_make(&now, s->settings, s->target, server_urls);
	if (!job)
		return err_set(e, ERR_NOMEM, "out of memory");
	int rc = strlen(job) > LIMIT_AGENT_JOB ? err_set(e, ERR_LIMIT, "the offer and the allow list are too long")
					       : worker_spawn(offer->session, s->settings->runtime_dir, job, &fd, e);
	secret_free_text(&job);
	if (rc)
		return rc;
	struct session *one = add(s, offer->session, offer->generation);
	if (!one) {
		close(fd); /* the worker ends when it reads that */
		return err_set(e, ERR_NOMEM, "out of memory");
	}
	one->offered = true;
	rc = attach(one, fd, e);
	if (rc)
		drop(one);
	return rc;
}

/* The answer to the offer before may have been lost, and so may be what was taken away since: an agent whose hello
 * lacks the session is sent its offer and no grant. */
static void offer_again(struct sessions *s, struct session *one, const struct offer *offer)
{
	if (offer->generation < one->generation) {
		log_with(LOG_LEVEL_DEBUG, FIELDS({ "session", one->id }), "an offer of an earlier generation");
		return;
	}
	if (one->ended) {
		s->callbacks.refused(s->user, one->id, one->generation, LINK_INTERNAL, "the session has ended here");
		return;
	}
	if (one->greeted)
		s->callbacks.accepted(s->user, one->id, one->generation);
	else
		one->offered = true;
	sessions_grant(s, one->id, offer->grant);
}

void sessions_offer(struct sessions *s, const struct offer *offer, json_t *server_urls)
{
	struct err e = { 0 };
	struct session *one = find(s, offer->session);
	if (one && one->generation >= offer->generation) {
		offer_again(s, one, offer);
		return;
	}
	if (one)
		supersede(one);
	int rc = judge(s, offer, &e);
	if (!rc)
		rc = start(s, offer, server_urls, &e);
	if (!rc) {
		log_with(LOG_LEVEL_INFO,
			 FIELDS({ "session", offer->session }, { "kind", offer->kind },
				{ "principal", offer->principal }),
			 "worker started");
		return;
	}
	unsigned code = rc == ERR_DENIED    ? LINK_NOT_ALLOWED
			: rc == ERR_LIMIT   ? LINK_LIMIT
			: rc == ERR_INVALID ? LINK_PROTOCOL
					    : LINK_INTERNAL;
	log_with(LOG_LEVEL_WARN, FIELDS({ "session", offer->session }, { "principal", offer->principal }),
		 "session refused: %s", e.text);
	s->callbacks.refused(s->user, offer->session, offer->generation, code, e.text);
}

int sessions_reload(struct sessions *s, struct err *e)
{
	struct allow *fresh = NULL;
	int rc = allow_parse(s->settings->allow.at, s->settings->allow.n, &fresh, e);
	if (rc)
		return rc;
	allow_free(&s->allow);
	s->allow = fresh;
	LIST_EACH(node, &s->all)
	{
		struct session *one = LIST_ENTRY(node, struct session, node);
		if (one->channel)
			tell_settings(one);
	}
	return 0;
}

/* Takes the reference. */
static void give_order(struct sessions *s, const char *session, enum order order, json_t *message)
{
	struct session *one = find(s, session);
	if (!one || !message) {
		log_with(LOG_LEVEL_DEBUG, FIELDS({ "session", session }), "an order for it came, it does not run here");
		json_decref(message);
		if (!one && order == ORDER_TERMINATE)
			s->callbacks.terminated(s->user, session);
		return;
	}
	json_decref(one->orders[order]);
	one->orders[order] = message;
	one->answered &= order != ORDER_TERMINATE;
	tell_order(one, order);
	if (one->ended)
		answer_terminate(one);
}

void sessions_grant(struct sessions *s, const char *session, json_t *grant)
{
	give_order(s, session, ORDER_GRANT, json_pack("{s:s, s:O}", "type", "grant", "grant", grant));
}

void sessions_terminate(struct sessions *s, const char *session, int64_t code, const char *text)
{
	give_order(s, session, ORDER_TERMINATE,
		   json_pack("{s:s, s:I, s:s}", "type", "terminate", "code", (json_int_t)code, "text", text));
}

json_t *sessions_running(const struct sessions *s)
{
	json_t *list = json_array();
	LIST_EACH(node, &s->all)
	{
		const struct session *one = LIST_ENTRY(node, const struct session, node);
		if (!one->ended && !one->offered && !one->superseded)
			json_array_append_new(list, json_pack("{s:s, s:I}", "id", one->id, "generation",
							      (json_int_t)one->generation));
	}
	return list;
}

void sessions_acknowledge(struct sessions *s)
{
	LIST_EACH(node, &s->all)
	{
		struct session *one = LIST_ENTRY(node, struct session, node);
		uint64_t last = spool_last_number(s->spool, one->name);
		if (last <= one->acked || !one->channel)
			continue;
		json_auto_t *ack = json_pack("{s:s, s:I}", "type", "ack", "n", (json_int_t)last);
		if (ack && channel_send(one->channel, ack) == 0)
			one->acked = last;
	}
}
