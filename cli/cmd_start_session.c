/* start-session: over SSH with the user's own ssh, or raw on standard input and output, or through local ports. */
#include "cli/mode.h"
#include "cli/ssh_session.h"

#include "base/limits.h"
#include "base/text.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct start_options {
	struct common_options common;
	const char *target, *login, *reason, *to, *ssh_dir, *give_up;
	struct forward_texts forwards;
	struct arg_list allow, ssh_args;
	bool stdio;
};
#define AT(member) offsetof(struct start_options, member)
static const struct arg_row rows[] = {
	{ "target", 't', ARG_TEXT, AT(target), "ID|tag:K=V", "the machine, or any one that has these tags" },
	{ "login", 'l', ARG_TEXT, AT(login), "NAME", "whom to be there; default: the profile's, else your local name" },
	{ "port-forward", 'L', ARG_LIST, AT(forwards.at[FORWARD_LOCAL]), "[BIND:]PORT:HOST:PORT",
	  "carry connections of a local port; /PATH, on either side: a unix socket; may be repeated" },
	{ "socks", 'D', ARG_LIST, AT(forwards.at[FORWARD_SOCKS]), "[BIND:]PORT",
	  "a SOCKS 5 proxy on a local port, to wherever the target reaches; may be repeated" },
	{ "reverse", 'R', ARG_LIST, AT(forwards.at[FORWARD_REVERSE]), "[BIND:]PORT:HOST:PORT",
	  "carry connections of a port on the target to HOST:PORT as seen from here; may be repeated" },
	{ "allow", 0, ARG_LIST, AT(allow), "HOST:PORT",
	  "with --socks: only this endpoint, instead of all there are; may be repeated" },
	{ "stdio", 0, ARG_FLAG, AT(stdio), NULL, "SSH's bytes on standard input and output, for ssh's ProxyCommand" },
	{ "to", 0, ARG_TEXT, AT(to), "HOST:PORT", "one TCP connection on standard input and output" },
	{ "ssh-dir", 0, ARG_TEXT, AT(ssh_dir), "DIR",
	  "with --stdio: where ssh finds agent (IdentityAgent) and known_hosts" },
	{ "ssh-arg", 0, ARG_LIST, AT(ssh_args), "ARG",
	  "a further argument for ssh, such as --ssh-arg=-t; may be repeated" },
	{ "give-up", 0, ARG_TEXT, AT(give_up), "DURATION", "how long to try to come back in an outage; default 15m" },
	{ "reason", 0, ARG_TEXT, AT(reason), "TEXT", "goes into the audit log" },
	{ .name = NULL },
};

static const char *local_login(void)
{
	const struct passwd *pw = getpwuid(geteuid());
	return pw ? pw->pw_name : "root";
}

static int check(const struct start_options *o, int argc)
{
	bool forwards = forward_count(&o->forwards) > 0, raw = o->stdio || o->to || forwards;
	const char *wrong = NULL;
	if (!o->target)
		wrong = "--target is missing";
	else if (!text_starts(o->target, "tag:") && !text_is_id(o->target))
		wrong = "--target: expected an id (letters, digits, . _ -) or tag:KEY=VALUE";
	else if ((o->stdio || o->to) && forwards)
		wrong = "forwards and --stdio or --to exclude each other";
	else if (o->allow.n > 0 && o->forwards.at[FORWARD_SOCKS].n == 0)
		wrong = "--allow belongs to --socks";
	else if (raw && argc > 0)
		wrong = "a command needs SSH: leave --stdio, --to and forwards out";
	else if (o->ssh_dir && (!o->stdio || o->to))
		wrong = "--ssh-dir belongs to --stdio";
	else if (o->ssh_args.n > 0 && raw)
		wrong = "--ssh-arg needs SSH: leave --stdio, --to and forwards out";
	else if (o->login && !text_is_login(o->login))
		wrong = "--login: not a login name";
	if (!wrong)
		return EXIT_CODE_OK;
	complain("start-session: %s; see tunnel-cli start-session --help", wrong);
	return EXIT_CODE_USAGE;
}

/* Entries of StartSession's allow, each once. */
struct wanted {
	char texts[LIMIT_ALLOW][FORWARD_ENTRY];
	const char *at[LIMIT_ALLOW];
	size_t n;
};

static int want(struct wanted *w, const char *entry, struct err *e)
{
	for (size_t i = 0; i < w->n; i++)
		if (strcmp(w->at[i], entry) == 0)
			return 0;
	if (w->n == LIMIT_ALLOW)
		return err_set(e, ERR_LIMIT, "more than %u endpoints for one session", LIMIT_ALLOW);
	snprintf(w->texts[w->n], sizeof w->texts[0], "%s", entry);
	w->at[w->n] = w->texts[w->n];
	w->n++;
	return 0;
}

static int want_host_port(struct wanted *w, const char *option, const char *text, struct err *e)
{
	struct forward_place at = { .port = 0 };
	char entry[FORWARD_ENTRY];
	if (text_parse_host_port(text, at.host, sizeof at.host, &at.port) != 0)
		return err_set(e, ERR_INVALID, "%s %.120s: expected HOST:PORT (IPv6 in brackets)", option, text);
	forward_place_text(&at, entry);
	return want(w, entry, e);
}

static int want_forward(struct wanted *w, enum forward_way way, const char *text, struct err *e)
{
	struct forward_spec spec;
	char entry[FORWARD_ENTRY];
	int rc = forward_parse(way, text, &spec, e);
	if (rc != 0)
		return rc;
	forward_allow(&spec, entry);
	return want(w, entry, e);
}

/* What the whole session is to reach. */
static int collect_allow(const struct start_options *o, struct wanted *w, struct err *e)
{
	int rc = o->to ? want_host_port(w, "--to", o->to, e) : 0;
	for (size_t i = 0; rc == 0 && i < o->allow.n; i++)
		rc = want_host_port(w, "--allow", o->allow.at[i], e);
	for (int way = 0; rc == 0 && way < FORWARD_WAYS; way++)
		for (size_t i = 0; rc == 0 && i < o->forwards.at[way].n; i++)
			if (way != FORWARD_SOCKS || o->allow.n == 0)
				rc = want_forward(w, (enum forward_way)way, o->forwards.at[way].at[i], e);
	return rc;
}

static int run_to(const struct start_options *o, struct client *c, const struct session_wish *wish, int64_t give_up_ms)
{
	struct session s = { 0 };
	int code = session_start(&s, c, wish);
	if (code == EXIT_CODE_OK) {
		struct mode_stdio m = { .dest = { .kind = LINK_KIND_TCP } };
		mode_stdio_init(&m);
		s.give_up_ms = give_up_ms;
		text_parse_host_port(o->to, m.dest.host, sizeof m.dest.host, &m.dest.port);
		code = session_run(&s, &m.mode);
	}
	session_free(&s);
	return session_leave(&s, code);
}

/* The ports first: without them there is no need of a session. */
static int run_forwards(const struct start_options *o, struct client *c, const struct session_wish *wish,
			int64_t give_up_ms)
{
	struct session s = { 0 };
	struct mode_forward m = { .texts = &o->forwards, .common = &o->common };
	mode_forward_init(&m);
	int code = mode_forward_listen(&m, 0);
	if (code == EXIT_CODE_OK)
		code = session_start(&s, c, wish);
	if (code == EXIT_CODE_OK) {
		s.give_up_ms = give_up_ms;
		code = session_run(&s, &m.mode);
	}
	session_free(&s);
	mode_forward_free(&m);
	return session_leave(&s, code);
}

static int run_tcp(const struct start_options *o, struct client *c, int64_t give_up_ms)
{
	struct wanted w = { .n = 0 };
	struct err e = { 0 };
	if (collect_allow(o, &w, &e) != 0) {
		complain("%s", e.text);
		return EXIT_CODE_USAGE;
	}
	const struct session_wish wish = { .target = o->target, .allow = w.at, .allow_n = w.n, .reason = o->reason };
	return o->to ? run_to(o, c, &wish, give_up_ms) : run_forwards(o, c, &wish, give_up_ms);
}

static int run_ssh(const struct start_options *o, struct client *c, int64_t give_up_ms, int argc, char **argv)
{
	const struct ssh_session_wish wish = {
		.target = o->target,
		.login = o->login           ? o->login
			 : c->profile.login ? c->profile.login
					    : local_login(),
		.reason = o->reason,
		.dir = o->ssh_dir,
		.give_up_ms = give_up_ms,
		.stdio = o->stdio,
		.ssh_args = &o->ssh_args,
		.argc = argc,
		.argv = argv,
	};
	return ssh_session_run(c, &wish);
}

static int start_session(const void *options, int argc, char **argv)
{
	const struct start_options *o = options;
	int64_t give_up_ms = 0;
	int code = check(o, argc);
	if (code == EXIT_CODE_OK)
		code = session_give_up(o->give_up, &give_up_ms);
	if (code != EXIT_CODE_OK)
		return code;
	struct client c;
	code = client_open(&c, &o->common);
	if (code != EXIT_CODE_OK)
		return code;
	code = o->to || forward_count(&o->forwards) > 0 ? run_tcp(o, &c, give_up_ms)
							: run_ssh(o, &c, give_up_ms, argc, argv);
	client_close(&c);
	return code;
}

const struct command command_start_session = {
	.name = "start-session",
	.usage = "--target ID|tag:K=V [OPTIONS] [-- COMMAND...]",
	.summary = "Open a shell, run a command, or carry ports, on a target",
	.rows = rows,
	.options_size = sizeof(struct start_options),
	.run = start_session,
	.details =
		"Examples:\n"
		"  tunnel-cli start-session --target web-1 --login root\n"
		"  tunnel-cli start-session --target web-1 --login root -- systemctl status nginx\n"
		"  tunnel-cli start-session --target tag:role=db --port-forward 5432:127.0.0.1:5432\n"
		"  tunnel-cli start-session --target web-1 --socks 1080   # curl --socks5-hostname localhost:1080 …\n"
		"  tunnel-cli start-session --target web-1 --socks 1080 --allow intranet:443\n"
		"  tunnel-cli start-session --target web-1 --reverse 8080:127.0.0.1:8000   # curl there shows what is "
		"here\n"
		"  rsync -a -e 'tunnel-cli start-session --login root --target' site/ web-1:/srv/site/\n"
		"  echo ping | tunnel-cli start-session --target web-1 --to 127.0.0.1:7\n",
	.takes_command = true,
};
