/* io_server FOLDER [key=value …]: the transport on a free port, certificate in FOLDER, the URL's port on the first line
 * of stdout. Then commands on stdin, one a line, until it ends: the server stops and the program exits with 0. */
#include "io_stubs.h"

#include "base/log.h"
#include "server/dev_certificate.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/pool.h"
#include "server/reactor.h"
#include "server/relay.h"
#include "server/server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long option(int argc, char **argv, const char *key, long standard)
{
	size_t n = strlen(key);
	for (int i = 2; i < argc; i++)
		if (strncmp(argv[i], key, n) == 0 && argv[i][n] == '=')
			return strtol(argv[i] + n + 1, NULL, 10);
	return standard;
}

static void info(struct server *server, const char *session)
{
	struct relay_info i = { 0 };
	bool known = relay_info_anythread(server->relay, session, &i);
	say("info %d client=%d target=%d up=%llu down=%llu detached=%lld", known, i.client, i.target,
	    (unsigned long long)i.bytes_up, (unsigned long long)i.bytes_down, (long long)i.detached_mono_ms);
}

static void notice(struct server *server, const char *session, const char *line)
{
	struct relay_notice n = { .reason = "told by the test" };
	long long at_s = 0;
	sscanf(line, "%*s %*s %u %lld", &n.code, &at_s);
	n.at_ms = at_s * 1000;
	relay_notice_anythread(server->relay, session, &n);
}

static void obey(struct server *server, const char *line)
{
	char word[32] = "", session[80] = "";
	unsigned code = 0;
	struct err e = { 0 };
	sscanf(line, "%31s %79s %u", word, session, &code);
	if (strcmp(word, "end") == 0)
		relay_end_anythread(server->relay, session, code, "ended by the test");
	else if (strcmp(word, "renew") == 0)
		relay_renew_anythread(server->relay, session, code);
	else if (strcmp(word, "notice") == 0) /* code, and seconds since 1970 */
		notice(server, session, line);
	else if (strcmp(word, "info") == 0)
		info(server, session);
	else if (strcmp(word, "forget") == 0)
		relay_forget_anythread(server->relay, session);
	else if (strcmp(word, "drain") == 0)
		atomic_store(&server->draining, true), relay_drain_anythread(server->relay);
	else if (strcmp(word, "connections") == 0)
		say("connections %zu", reactors_connections_anythread(server->reactors));
	else if (strcmp(word, "admin") == 0)
		say("admin %u", reactors_admin_port(server->reactors));
	else if (strcmp(word, "queued") == 0)
		say("queued %zu", pool_queued_anythread(server->pool));
	else if (strcmp(word, "release") == 0)
		hold_end();
	else if (strcmp(word, "reload") == 0)
		say("reload %d %s", reactors_reload_tls(server->reactors, &e), e.text);
	else if (strcmp(word, "certificate") == 0)
		say("certificate %d",
		    dev_certificate_make("ca.pem", server->settings->tls_certificate, server->settings->tls_key, &e));
}

int main(int argc, char **argv)
{
	struct err e = { 0 };
	static char listen[] = "127.0.0.1:0", certificate[] = "server.pem", key[] = "server.key";
	struct settings settings = {
		.listen = listen, .admin_listen = listen, .tls_certificate = certificate, .tls_key = key
	};
	settings.direct_transport = option(argc, argv, "direct", 1) != 0;
	struct server server = { .settings = &settings, .node = "io", .metrics = metrics_new() };
	signal(SIGPIPE, SIG_IGN);
	log_init("io_server", LOG_LEVEL_DEBUG, LOG_FORMAT_LOGFMT);
	http_times.header_ms = option(argc, argv, "header_ms", http_times.header_ms);
	http_times.body_ms = option(argc, argv, "body_ms", http_times.body_ms);
	http_times.work_ms = option(argc, argv, "work_ms", http_times.work_ms);
	if (argc < 2 || chdir(argv[1]) != 0 ||
	    dev_certificate_make("ca.pem", settings.tls_certificate, settings.tls_key, &e) != 0 ||
	    reactors_new(&server, (size_t)option(argc, argv, "reactors", 2), &server.reactors, &e) != 0 ||
	    pool_start((size_t)option(argc, argv, "workers", 4), (size_t)option(argc, argv, "queue", 1024),
		       server.reactors, &server.pool, &e) != 0 ||
	    relay_new(&server, &server.relay, &e) != 0 || reactors_start(server.reactors, &e) != 0) {
		fprintf(stderr, "io_server: %s\n", e.text);
		return 1;
	}
	say("%u", reactors_port(server.reactors));
	char line[256];
	while (fgets(line, sizeof line, stdin))
		obey(&server, line);
	hold_end();
	reactors_halt(server.reactors);
	pool_stop(&server.pool);
	relay_free(&server.relay);
	reactors_stop(&server.reactors);
	metrics_free(&server.metrics);
	return 0;
}
