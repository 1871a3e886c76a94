/* Start and stop, in one order and its reverse. What was started is known by its pointer, so half a start is ended by
 * the same function as a whole one. Signals are read from a signalfd on the main thread; nothing runs in a handler. */
#include "server/run.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/process.h"
#include "base/text.h"
#include "server/audit.h"
#include "server/audit_keeper.h"
#include "server/auth.h"
#include "server/control.h"
#include "server/dev.h"
#include "server/events.h"
#include "server/guesses.h"
#include "server/metrics.h"
#include "server/nodes.h"
#include "server/policies.h"
#include "server/pool.h"
#include "server/reactor.h"
#include "server/relay.h"
#include "server/revocations.h"
#include "server/server.h"
#include "server/session_peers.h"
#include "server/sessions.h"
#include "server/sshca.h"
#include "server/store.h"
#include "server/strangers.h"
#include "server/tls_check.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void signal_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
}

void run_prepare(void)
{
	sigset_t set;
	notify_init();
	signal_set(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* The URL of this node and those of all, once the port is known. */
static int complete_urls(struct settings *s, uint16_t port, struct err *e)
{
	if (!s->advertise_url[0]) {
		char host[256], address[300], *url = NULL;
		uint16_t ignored;
		if (reactors_parse_listen(s->listen, host, sizeof host, &ignored) != 0)
			return err_set(e, ERR_INVALID, "listen: \"%s\": expected host:port", s->listen);
		if (!host[0] || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0 || strcmp(host, "*") == 0)
			gethostname(host, sizeof host - 1);
		text_host_port(host, port, address, sizeof address);
		if (asprintf(&url, "https://%s", address) < 0)
			return err_set(e, ERR_NOMEM, "out of memory");
		free(s->advertise_url);
		s->advertise_url = url;
	}
	if (s->server_urls.n)
		return 0;
	s->server_urls.at = calloc(1, sizeof *s->server_urls.at);
	if (!s->server_urls.at || !(s->server_urls.at[0] = strdup(s->advertise_url)))
		return err_set(e, ERR_NOMEM, "out of memory");
	s->server_urls.n = 1;
	return 0;
}

static int start(struct server *v, struct settings *s, struct events **events, struct err *e)
{
	const struct sshca_files ca = { s->ssh_ca_key, s->ssh_ca_trusted };
	int rc = file_mkdir(s->state_dir, 0700, e);
	if (rc == 0)
		rc = guesses_new(s, &v->guesses, e);
	if (rc == 0)
		rc = strangers_new(s, v->metrics, &v->strangers, e);
	/* One that a killed server left would say that this one serves. */
	if (s->ready_file[0])
		unlink(s->ready_file);
	if (rc == 0)
		rc = reactors_new(v, (size_t)s->reactors, &v->reactors, e);
	if (rc == 0)
		rc = complete_urls(s, reactors_port(v->reactors), e);
	if (rc != 0)
		return rc;
	v->public_url = s->advertise_url;
	tls_warn_of_name(s->tls_certificate, "advertise_url", s->advertise_url);
	if ((rc = pool_start((size_t)s->workers, LIMIT_POOL_QUEUE, v->reactors, &v->pool, e)) != 0 ||
	    (rc = store_open(s->plugin_dir, &s->store, v->metrics, &v->store, e)) != 0 ||
	    (rc = auth_open(s->plugin_dir, &s->auth, v->metrics, &v->auth, e)) != 0)
		return rc;
	/* One provider that hangs leaves a worker of each lane for what the others are asked. Before anybody is asked:
	 * sessions are judged as soon as they are loaded. */
	auth_limit_calls(v->auth, s->workers > 1 ? (size_t)s->workers - 1 : 1);
	if ((rc = sshca_open(&ca, &v->sshca, e)) != 0 || (rc = audit_open_blocking(v, &v->audit, e)) != 0 ||
	    (rc = audit_keeper_start_blocking(v, &v->audit_keeper, e)) != 0 ||
	    (rc = policies_open_blocking(v, &v->policies, e)) != 0 ||
	    (rc = revocations_open_blocking(v, &v->revocations, e)) != 0 || (rc = relay_new(v, &v->relay, e)) != 0 ||
	    (rc = sessions_new(v, &v->sessions, e)) != 0 || (rc = control_new(v, &v->control, e)) != 0 ||
	    (rc = peers_new(v, session_peers_ops, &v->peers, e)) != 0 ||
	    (rc = nodes_start_blocking(v, &v->nodes, e)) != 0 || (rc = sessions_start(v->sessions, e)) != 0 ||
	    (rc = events_open_blocking(v, events, e)) != 0)
		return rc;
	return reactors_start(v->reactors, e);
}

/* Connections end first, while the pool can still be told; then what the pool's jobs use. */
static void stop(struct server *v, struct events **events)
{
	if (*events)
		events_mute(*events);
	if (v->peers)
		peers_mute(v->peers);
	if (v->reactors)
		reactors_halt(v->reactors);
	if (v->sessions)
		sessions_halt(v->sessions);
	/* What the ending connections reported is still worked off before what it is reported to ends. */
	if (v->pool)
		pool_stop(&v->pool);
	nodes_stop(&v->nodes);
	if (v->sessions)
		sessions_stop(&v->sessions);
	if (v->control)
		control_free(&v->control);
	if (v->relay)
		relay_free(&v->relay);
	if (v->revocations)
		revocations_close(&v->revocations);
	if (v->policies)
		policies_close(&v->policies);
	if (v->audit_keeper)
		audit_keeper_stop(&v->audit_keeper);
	if (v->audit)
		audit_close(&v->audit);
	if (v->sshca)
		sshca_close(&v->sshca);
	if (v->auth)
		auth_close(&v->auth);
	if (v->store)
		store_close(&v->store);
	events_free(events);
	peers_free(&v->peers);
	if (v->reactors)
		reactors_stop(&v->reactors);
	strangers_free(&v->strangers);
	guesses_free(&v->guesses);
	metrics_free(&v->metrics);
}

static bool told(const char *what, int rc, const struct err *e)
{
	if (rc != 0)
		log_error("reload: %s: %s; the old one stays in use", what, e->text);
	return rc == 0;
}

/* The places are those of the config of now: a mistake in that leaves the keys alone, too. */
static int reload_sshca(struct server *v, const struct settings *fresh, struct err *e)
{
	const struct sshca_files files = { fresh->ssh_ca_key, fresh->ssh_ca_trusted };
	bool changed = false;
	int rc = sshca_reload(v->sshca, &files, &changed, e);
	return changed ? control_ssh_changed_blocking(v, e) : rc;
}

/* Where it listens at any port, the file may name the one that was found, as --dev writes it: that is no change. */
static void forget_found_port(const char *running, uint16_t port, char **fresh)
{
	char host[256], found[300];
	uint16_t asked;
	if (reactors_parse_listen(running, host, sizeof host, &asked) != 0 || asked != 0)
		return;
	text_host_port(host, port, found, sizeof found);
	char *same = strcmp(*fresh, found) == 0 ? strdup(running) : NULL;
	if (!same)
		return;
	free(*fresh);
	*fresh = same;
}

/* What stands in the file and comes into force with the next start only. */
static void tell_left(struct server *v, struct settings *fresh)
{
	char left[256];
	struct err e;
	if (complete_urls(fresh, reactors_port(v->reactors), &e) != 0)
		return;
	forget_found_port(v->settings->listen, reactors_port(v->reactors), &fresh->listen);
	forget_found_port(v->settings->admin_listen, reactors_admin_port(v->reactors), &fresh->admin_listen);
	conf_left(settings_rows, v->settings, fresh, left, sizeof left);
	if (*left)
		log_warn("reload: changed, but needs a restart (sessions go on over it): %s", left);
}

static void reload(struct server *v, const char *config_path)
{
	struct err e = { 0 };
	struct settings fresh;
	notify_send("RELOADING=1");
	int rc = settings_load(config_path, &fresh, &e);
	bool all = told("config", rc, &e);
	if (rc == 0) {
		log_set_level((enum log_level)fresh.log_level);
		rc = guesses_reload(v->guesses, &fresh, &e);
		if (rc == 0)
			rc = strangers_reload(v->strangers, &fresh, &e);
		all &= told("limits", rc, &e);
		rc = reload_sshca(v, &fresh, &e);
		all &= told("ssh", rc, &e);
		tell_left(v, &fresh);
		settings_free(&fresh);
	}
	rc = reactors_reload_tls(v->reactors, &e);
	all &= told("certificate", rc, &e);
	rc = auth_reload(v->auth, &e);
	all &= told("auth", rc, &e);
	rc = store_reload(v->store, &e);
	all &= told("store", rc, &e);
	rc = policies_reload_blocking(v->policies, &e);
	all &= told("policies", rc, &e);
	bool changed;
	rc = revocations_reload_blocking(v->revocations, &changed, &e);
	all &= told("revocations", rc, &e);
	sessions_rejudge_blocking(v);
	if (all)
		log_info("reloaded");
	else
		log_warn("reloaded in part");
	if (!atomic_load(&v->draining))
		notify_send("READY=1");
}

/* A plugin may take its time over it, so it has a thread of its own beside the one that reads the signals. What is
 * asked for meanwhile is one more reload afterwards. */
struct reloader {
	struct server *server;
	const char *config_path;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool wanted, ending, running;
	pthread_t thread;
};

static void *reloader_main(void *arg)
{
	struct reloader *r = arg;
	pthread_mutex_lock(&r->lock);
	while (!r->ending) {
		if (!r->wanted) {
			pthread_cond_wait(&r->changed, &r->lock);
			continue;
		}
		r->wanted = false;
		pthread_mutex_unlock(&r->lock);
		reload(r->server, r->config_path);
		pthread_mutex_lock(&r->lock);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

static int reloader_start(struct reloader *r, struct server *v, const char *config_path, struct err *e)
{
	*r = (struct reloader){ .server = v, .config_path = config_path };
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->changed, NULL);
	int rc = pthread_create(&r->thread, NULL, reloader_main, r);
	r->running = rc == 0;
	return rc == 0 ? 0 : err_set_errno(e, ERR_UNAVAILABLE, rc, "thread for reloading");
}

static void reloader_tell(struct reloader *r, bool *what)
{
	pthread_mutex_lock(&r->lock);
	*what = true;
	pthread_cond_signal(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

/* Waits for the reload that is under way. */
static void reloader_end(struct reloader *r)
{
	if (!r->running)
		return;
	reloader_tell(r, &r->ending);
	pthread_join(r->thread, NULL);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
}

/* ---- the stop has a bound ---- */

#define AGENTS_MOVE_MS 3000 /* agents take up to a second, chosen at random, before they go */
#define STOP_MS 10000       /* after the drain: for what is queued and what a plugin is at */

struct watch {
	int signal_fd, done_fd; /* done_fd: an eventfd */
	int64_t until_ms;
	pthread_t thread;
	bool running;
};

/* Nothing is lost by an exit in the middle: what was promised to anybody is in the store, as after a crash. */
static void exit_now(const char *why)
{
	log_error("%s: exiting at once", why);
	_exit(1);
}

static void *watch_main(void *arg)
{
	struct watch *w = arg;
	struct pollfd fds[] = { { w->done_fd, POLLIN, 0 }, { w->signal_fd, POLLIN, 0 } };
	for (;;) {
		int64_t left_ms = w->until_ms - clock_mono_ms();
		if (left_ms <= 0)
			exit_now("the server could not stop in time");
		int n = poll(fds, 2, (int)left_ms);
		if (n > 0 && fds[0].revents)
			return NULL;
		struct signalfd_siginfo info;
		if (n > 0 && fds[1].revents && read(w->signal_fd, &info, sizeof info) == (ssize_t)sizeof info &&
		    info.ssi_signo != SIGHUP)
			exit_now("told to stop a second time");
	}
}

static void watch_start(struct watch *w, int signal_fd, int64_t drain_ms)
{
	*w = (struct watch){ .signal_fd = signal_fd,
			     .done_fd = eventfd(0, EFD_CLOEXEC),
			     .until_ms = clock_mono_ms() + drain_ms + STOP_MS };
	w->running = w->done_fd >= 0 && pthread_create(&w->thread, NULL, watch_main, w) == 0;
	if (!w->running)
		log_warn("nobody watches over the stop");
}

static void watch_end(struct watch *w)
{
	if (w->running && eventfd_write(w->done_fd, 1) == 0)
		pthread_join(w->thread, NULL);
	if (w->done_fd >= 0)
		close(w->done_fd);
}

/* Everybody is told to move; then the connections may take drain_timeout to go. Where there is another node the agents
 * go first: their sessions follow them, and each end is sent to where it is expected. */
static void drain(struct server *v)
{
	int64_t end = clock_mono_ms() + v->settings->drain_ms;
	char state[80];
	atomic_store(&v->draining, true);
	/* However long drain_timeout is, systemd is to wait until watch_main has had its say. */
	snprintf(state, sizeof state, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%lld",
		 (long long)(v->settings->drain_ms + 2 * STOP_MS) * 1000);
	notify_send(state);
	reactors_stop_listening(v->reactors);
	nodes_tell_draining_blocking(v->nodes);
	control_drain_anythread(v->control);
	int64_t agents_end = clock_mono_ms() + (nodes_has_heir(v->nodes) ? AGENTS_MOVE_MS : 0);
	while (sessions_count_anythread(v->sessions, NULL) > 0 && clock_mono_ms() < agents_end && clock_mono_ms() < end)
		poll(NULL, 0, 20);
	relay_drain_anythread(v->relay);
	while (reactors_connections_anythread(v->reactors) > 0 && clock_mono_ms() < end)
		poll(NULL, 0, 50);
}

/* Returns on SIGTERM or SIGINT. */
static void serve(struct reloader *reloader, int signal_fd)
{
	for (;;) {
		struct signalfd_siginfo info;
		ssize_t n = read(signal_fd, &info, sizeof info);
		if (n < 0 && errno == EINTR)
			continue;
		if (n != (ssize_t)sizeof info || info.ssi_signo != SIGHUP)
			return;
		reloader_tell(reloader, &reloader->wanted);
	}
}

static int announce(struct server *v, struct err *e)
{
	const struct settings *s = v->settings;
	if (s->ready_file[0]) {
		char line[600];
		int n = snprintf(line, sizeof line, "%s\n", v->public_url);
		int rc = file_write(s->ready_file, line, (size_t)n, 0644, e);
		if (rc != 0)
			return err_wrap(e, "ready_file");
	}
	char port[8], reactors[8];
	snprintf(port, sizeof port, "%u", reactors_port(v->reactors));
	snprintf(reactors, sizeof reactors, "%zu", reactors_count(v->reactors));
	log_with(LOG_LEVEL_INFO,
		 FIELDS({ "node", s->node }, { "url", v->public_url }, { "listen", s->listen }, { "port", port },
			{ "reactors", reactors }, { "version", TUNNEL_VERSION }),
		 "serving");
	snprintf(port, sizeof port, "%u", reactors_admin_port(v->reactors));
	if (s->admin_listen[0])
		log_with(LOG_LEVEL_INFO, FIELDS({ "listen", s->admin_listen }, { "port", port }),
			 "the console is served");
	process_settled();
	notify_send("READY=1");
	return 0;
}

static int announce_dev(struct server *v, const char *dir, struct err *e)
{
	const struct dev_served served = { .listen = v->settings->listen,
					   .admin_listen = v->settings->admin_listen,
					   .port = reactors_port(v->reactors),
					   .admin_port = reactors_admin_port(v->reactors),
					   .url = v->public_url };
	return dev_announce(dir, &served, e);
}

int run_server(struct settings *settings, const char *config_path, const char *dev_dir, struct err *e)
{
	struct server v = { .settings = settings, .node = settings->node, .metrics = metrics_new() };
	struct events *events = NULL;
	struct reloader reloader = { .running = false };
	struct watch watch = { .done_fd = -1 };
	sigset_t set;
	signal_set(&set);
	int signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
	int rc = v.metrics && signal_fd >= 0 ? start(&v, settings, &events, e)
					     : err_set(e, ERR_UNAVAILABLE, "no signalfd");
	if (rc == 0 && dev_dir)
		rc = announce_dev(&v, dev_dir, e);
	if (rc == 0)
		rc = reloader_start(&reloader, &v, config_path, e);
	if (rc == 0)
		rc = announce(&v, e);
	if (rc == 0) {
		serve(&reloader, signal_fd);
		log_info("stopping");
		if (settings->ready_file[0])
			unlink(settings->ready_file);
		watch_start(&watch, signal_fd, settings->drain_ms);
		drain(&v);
	}
	reloader_end(&reloader);
	stop(&v, &events);
	watch_end(&watch);
	if (signal_fd >= 0)
		close(signal_fd);
	if (rc == 0)
		log_info("stopped");
	return rc;
}
