/* doctor: what works, what does not, and what to do about it. */
#include "cli/doctor.h"
#include "cli/output.h"

#include "base/limits.h"
#include "base/text.h"

#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct doctor_options {
	struct common_options common;
	const char *target, *login;
};
#define AT(member) offsetof(struct doctor_options, member)
static const struct arg_row rows[] = {
	{ "target", 't', ARG_TEXT, AT(target), "ID",
	  "also what is needed for a session there: starts one, for a moment" },
	{ "login", 'l', ARG_TEXT, AT(login), "NAME", "whom to be there; default: the profile's, else your local name" },
	{ .name = NULL },
};

void doctor_say(struct doctor_found *f, enum doctor_verdict verdict, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	f->verdict = verdict;
	text_vprint(f->text, sizeof f->text, fmt, ap);
	va_end(ap);
}

void doctor_advise(struct doctor_found *f, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	text_vprint(f->next, sizeof f->next, fmt, ap);
	va_end(ap);
}

static void check_config(struct doctor *d, struct doctor_found *f)
{
	struct err e = { 0 };
	const struct common_options *common = d->client.common;
	if (profile_load(common, &d->client.profile, &e) != 0) {
		doctor_say(f, DOCTOR_FAILED, "%s", e.text);
		doctor_advise(f,
			      "tunnel-cli(1), FILES, has what the file holds; --config and --profile choose another");
		return;
	}
	const struct conf_strings *servers = &d->client.profile.servers;
	if (servers->n == 0 || url_parse_secure(servers->at[0], &d->server, &e) != 0) {
		doctor_say(f, DOCTOR_FAILED, "server: %s", e.code ? e.text : "none is named");
		doctor_advise(f, "server in the profile is https://HOST[:PORT]");
		return;
	}
	const struct passwd *pw = getpwuid(geteuid());
	if (!d->login)
		d->login = d->client.profile.login ? d->client.profile.login : pw ? pw->pw_name : "root";
	doctor_say(f, DOCTOR_OK, "server %s%s", servers->at[0], servers->n > 1 ? " and others" : "");
}

static void check_credentials(struct doctor *d, struct doctor_found *f)
{
	json_t *answer = NULL;
	char why[CLIENT_WHY] = "";
	int code = client_try(&d->client, "GET", "/v1/whoami", NULL, &answer, why);
	const char *subject = json_string_value(json_object_get(answer, "subject"));
	const char *expires = json_string_value(json_object_get(answer, "expires_at"));
	if (code == EXIT_CODE_OK)
		doctor_say(f, DOCTOR_OK, "%s%s%s", subject ? subject : "?", expires ? ", until " : "",
			   expires ? expires : "");
	else
		doctor_say(f, DOCTOR_FAILED, "%s", why);
	doctor_advise(f, code == EXIT_CODE_CONFIG
				 ? "the profile says where the credential is: token_file, token_command, "
				   "credentials (mode 0600), or what tunnel-cli login keeps"
				 : "get a fresh credential, or ask who runs the server whether it is known "
				   "there and not revoked");
	json_decref(answer);
}

static void check_target(struct doctor *d, struct doctor_found *f)
{
	char path[LIMIT_ID + 32], why[CLIENT_WHY] = "";
	json_t *answer = NULL;
	snprintf(path, sizeof path, "/v1/targets/%s", d->target);
	int code = client_try(&d->client, "GET", path, NULL, &answer, why);
	const char *state = json_string_value(json_object_get(answer, "state"));
	const char *seen = json_string_value(json_object_get(answer, "last_seen"));
	if (code != EXIT_CODE_OK) {
		doctor_say(f, DOCTOR_FAILED, "%s: %s", d->target, why);
		doctor_advise(f, "tunnel-cli list-targets shows those that you may see");
	} else if (!state || strcmp(state, "connected") != 0) {
		doctor_say(f, DOCTOR_FAILED, "%s is %s, last seen %s", d->target, state ? state : "?",
			   seen ? seen : "never");
		doctor_advise(f, "on the target: is tunnel-agent running, and does its log say why it cannot connect?");
	} else {
		doctor_say(f, DOCTOR_OK, "%s is connected", d->target);
	}
	json_decref(answer);
}

static void check_policy(struct doctor *d, struct doctor_found *f)
{
	doctor_try_session(d);
	*f = d->policy;
}

static void check_session(struct doctor *d, struct doctor_found *f)
{
	*f = d->session;
}

static void check_resume(struct doctor *d, struct doctor_found *f)
{
	*f = d->resume;
}

/* In this order; none is tried when one before it failed. What the trial of a session found is told in any case. */
static const struct {
	const char *name;
	void (*run)(struct doctor *d, struct doctor_found *f);
	bool told; /* by the trial */
	bool needs_target;
} checks[] = {
	{ "config", check_config, false, false },
	{ "proxy", doctor_check_proxy, false, false },
	{ "dns", doctor_check_dns, false, false },
	{ "tcp", doctor_check_tcp, false, false },
	{ "tls", doctor_check_tls, false, false },
	{ "clock", doctor_check_clock, false, false },
	{ "credentials", check_credentials, false, false },
	{ "target", check_target, false, true },
	{ "policy", check_policy, false, true },
	{ "session", check_session, true, true },
	{ "resume", check_resume, true, true },
};

static void print_row(const char *name, const struct doctor_found *f)
{
	static const char *const words[] = { "ok", "FAILED", "skipped" };
	char text[sizeof f->text], next[sizeof f->next];
	snprintf(text, sizeof text, "%s", f->text);
	snprintf(next, sizeof next, "%s", f->next);
	text_make_plain(text);
	text_make_plain(next);
	printf("%-12s %-8s %s\n", name, words[f->verdict], text);
	if (f->verdict == DOCTOR_FAILED && *next)
		printf("%-12s %-8s → %s\n", "", "", next);
	fflush(stdout);
}

static json_t *row_json(const char *name, const struct doctor_found *f)
{
	static const char *const words[] = { "ok", "failed", "skipped" };
	bool failed = f->verdict == DOCTOR_FAILED;
	return json_pack("{s:s, s:s, s:s, s:s}", "check", name, "verdict", words[f->verdict], "text", f->text, "next",
			 failed ? f->next : "");
}

/* How many failed. */
static size_t run_checks(struct doctor *d, bool as_json)
{
	json_t *all = json_array();
	size_t failed = 0;
	for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
		struct doctor_found f = { .verdict = DOCTOR_SKIPPED };
		if (checks[i].needs_target && !d->target)
			doctor_say(&f, DOCTOR_SKIPPED, "name a target: --target ID");
		else if (failed > 0 && !(checks[i].told && d->tried))
			doctor_say(&f, DOCTOR_SKIPPED, "needs what failed above");
		else
			checks[i].run(d, &f);
		failed += f.verdict == DOCTOR_FAILED;
		if (as_json)
			json_array_append_new(all, row_json(checks[i].name, &f));
		else
			print_row(checks[i].name, &f);
	}
	if (as_json)
		output_json(all);
	json_decref(all);
	return failed;
}

static int doctor(const void *options, int argc, char **argv)
{
	const struct doctor_options *o = options;
	struct common_options common = o->common;
	struct doctor d = { .client = { .common = &common }, .target = o->target };
	(void)argv;
	if (argc > 0 || (o->target && !text_is_id(o->target)) || (o->login && !text_is_login(o->login))) {
		complain("doctor: %s; see tunnel-cli doctor --help",
			 argc > 0                              ? "no arguments expected"
			 : o->target && !text_is_id(o->target) ? "--target: expected an id (letters, digits, . _ -)"
							       : "--login: not a login name");
		return EXIT_CODE_USAGE;
	}
	common.quiet = true; /* of the session that is tried */
	d.login = o->login;
	size_t failed = run_checks(&d, o->common.output == OUTPUT_JSON);
	client_close(&d.client);
	return failed ? EXIT_CODE_FAILED : EXIT_CODE_OK;
}

const struct command command_doctor = {
	.name = "doctor",
	.usage = "[OPTIONS]",
	.summary = "Check config, network, credentials and policy, and say what to do about what fails",
	.rows = rows,
	.options_size = sizeof(struct doctor_options),
	.run = doctor,
	.details = "With --target a session is started for a moment, without logging in, and its connection cut to see "
		   "that it\n"
		   "comes back; the audit log has it. Exits with 0 when nothing failed, else with 1.\n\n"
		   "Examples:\n"
		   "  tunnel-cli doctor\n"
		   "  tunnel-cli doctor --target web-1 --login root\n",
};
