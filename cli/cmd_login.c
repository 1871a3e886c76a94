/* login and logout: the sign-in of a profile with auth = "oidc", by the device authorization grant (RFC 8628). The
 * prompt is what has to be seen, so it stands on standard error also with --quiet, and on standard output for
 * programs. */
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/output.h"
#include "cli/profile.h"
#include "cli/signin.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SLOWER_MS 5000         /* RFC 8628 section 3.5: for good, with each slow_down */
#define INTERVAL_MAX_MS 120000 /* while the issuer is away */

static int open_profile(const char *command, const struct common_options *common, int argc, struct profile *out)
{
	struct err e = { 0 };
	if (argc > 0) {
		complain("%s takes no arguments; see --help", command);
		return EXIT_CODE_USAGE;
	}
	if (profile_load(common, out, &e) != 0) {
		complain("%s", e.text);
		return EXIT_CODE_CONFIG;
	}
	if (out->auth == PROFILE_OIDC)
		return EXIT_CODE_OK;
	profile_free(out);
	complain("%s is for a profile with auth = \"oidc\", issuer and client_id; this one signs in otherwise",
		 command);
	return EXIT_CODE_CONFIG;
}

/* One line, at once: whoever reads it acts on it while we wait. Takes the reference over. */
static void print_line(json_t *json)
{
	output_json_line(json);
	fflush(stdout);
	json_decref(json);
}

static json_t *time_json(int64_t wall_ms)
{
	char text[CLOCK_TEXT_LEN];
	return json_string(clock_text(wall_ms, text));
}

static void prompt(const struct oidc_device *d, const struct common_options *common)
{
	fprintf(stderr, "To sign in, open this page on any device:\n\n    %s\n\n",
		d->uri_complete ? d->uri_complete : d->uri);
	fprintf(stderr, "%s    %s\n\n",
		d->uri_complete ? "and check that it shows the code\n\n" : "and enter the code\n\n", d->user_code);
	if (common->output == OUTPUT_JSON)
		print_line(json_pack("{s:s, s:s*, s:s, s:o}", "verification_uri", d->uri, "verification_uri_complete",
				     d->uri_complete, "user_code", d->user_code, "expires_at",
				     time_json(clock_wall_ms() + d->expires_in_ms)));
}

static void wait_ms(int64_t ms)
{
	nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 }, NULL);
}

/* Until somebody has decided, or the code is over. */
static int wait_for_tokens(const struct oidc_issuer *issuer, const struct oidc_device *d, struct oidc_tokens *out,
			   struct err *e)
{
	int64_t until_ms = clock_mono_ms() + d->expires_in_ms, interval_ms = d->interval_ms, pause_ms = interval_ms;
	enum oidc_answer answer = OIDC_PENDING;
	while (clock_mono_ms() + pause_ms < until_ms) {
		wait_ms(pause_ms);
		answer = oidc_device_poll_blocking(issuer, d, out, e);
		if (answer == OIDC_GRANTED || answer == OIDC_OVER)
			return answer == OIDC_GRANTED ? EXIT_CODE_OK : EXIT_CODE_UNAUTHENTICATED;
		if (answer == OIDC_AWAY) {
			log_debug("the issuer did not answer: %s", e->text);
			pause_ms = pause_ms * 2 < INTERVAL_MAX_MS ? pause_ms * 2 : INTERVAL_MAX_MS;
			continue;
		}
		interval_ms += answer == OIDC_SLOWER ? SLOWER_MS : 0;
		pause_ms = interval_ms;
	}
	if (answer == OIDC_AWAY)
		return EXIT_CODE_UNREACHABLE;
	err_set(e, ERR_DENIED, "nobody confirmed the code in time");
	return EXIT_CODE_UNAUTHENTICATED;
}

static void tell(const struct profile *p, const struct oidc_tokens *t, const struct common_options *common)
{
	char text[CLOCK_TEXT_LEN], *subject = strdup(t->subject);
	if (common->output == OUTPUT_JSON) {
		print_line(json_pack("{s:s, s:s, s:o, s:b}", "issuer", p->oidc.issuer, "subject", t->subject,
				     "expires_at", time_json(t->expires_ms), "refreshes", t->refresh_token != NULL));
	} else {
		if (subject)
			text_make_plain(subject);
		printf("Signed in at %s as %s until %s%s.\n", p->oidc.issuer, subject ? subject : "?",
		       clock_text(t->expires_ms, text),
		       t->refresh_token ? ", and longer by itself while the issuer allows it"
					: "; the issuer gave no refresh token, so run this again then");
	}
	free(subject);
}

static int sign_in(const struct profile *p, const struct common_options *common, struct err *e)
{
	struct oidc_issuer issuer;
	struct oidc_device device;
	struct oidc_tokens tokens = { 0 };
	if (oidc_discover_blocking(&p->oidc, p->proxy, &issuer, e) != 0)
		return exit_for_err(e);
	if (oidc_device_begin_blocking(&issuer, &device, e) != 0) {
		oidc_issuer_free(&issuer);
		return exit_for_err(e);
	}
	prompt(&device, common);
	int code = wait_for_tokens(&issuer, &device, &tokens, e);
	oidc_device_free(&device);
	oidc_issuer_free(&issuer);
	if (code == EXIT_CODE_OK && signin_keep_blocking(p, &tokens, e) != 0)
		code = EXIT_CODE_CONFIG;
	if (code == EXIT_CODE_OK)
		tell(p, &tokens, common);
	oidc_tokens_free(&tokens);
	return code;
}

static int login(const void *options, int argc, char **argv)
{
	const struct common_options *common = options;
	struct profile p;
	struct err e = { 0 };
	(void)argv;
	int code = open_profile("login", common, argc, &p);
	if (code != EXIT_CODE_OK)
		return code;
	code = sign_in(&p, common, &e);
	profile_free(&p);
	if (code != EXIT_CODE_OK)
		complain("login: %s", e.text);
	return code;
}

/* What is on this machine is gone by now; the issuer should know, too, but need not answer. */
static void revoke(const struct profile *p, const char *refresh_token, const struct common_options *common)
{
	struct oidc_issuer issuer;
	struct err e = { 0 };
	int rc = oidc_discover_blocking(&p->oidc, p->proxy, &issuer, &e);
	if (rc == 0) {
		rc = oidc_revoke_blocking(&issuer, refresh_token, &e);
		oidc_issuer_free(&issuer);
	}
	if (rc != 0 && !common->quiet)
		complain("logout: the tokens are gone from here, but the issuer was not told: %s", e.text);
}

static int logout(const void *options, int argc, char **argv)
{
	const struct common_options *common = options;
	struct profile p;
	struct err e = { 0 };
	bool was = false;
	char *refresh_token = NULL;
	(void)argv;
	int code = open_profile("logout", common, argc, &p);
	if (code != EXIT_CODE_OK)
		return code;
	if (signin_forget_blocking(&p, &was, &refresh_token, &e) != 0) {
		complain("logout: %s", e.text);
		code = EXIT_CODE_CONFIG;
	} else if (common->output == OUTPUT_JSON) {
		print_line(json_pack("{s:s, s:b}", "issuer", p.oidc.issuer, "was_signed_in", was));
	} else {
		printf(was ? "Signed out at %s.\n" : "Nobody was signed in at %s.\n", p.oidc.issuer);
	}
	if (refresh_token)
		revoke(&p, refresh_token, common);
	secret_free_text(&refresh_token);
	profile_free(&p);
	return code;
}

const struct command command_login = {
	.name = "login",
	.usage = "",
	.summary = "Sign in at the profile's OpenID Connect issuer, with a browser on any device",
	.options_size = sizeof(struct common_options),
	.run = login,
	.details = "Example:\n  tunnel-cli login && tunnel-cli whoami\n\nFor profiles with auth = \"oidc\", issuer and "
		   "client_id. The sign-in is kept and refreshed until logout,\nor until the issuer ends it. With "
		   "--output "
		   "json, two lines on standard output: what to open, and then who\nis signed in.\n",
};

const struct command command_logout = {
	.name = "logout",
	.usage = "",
	.summary = "Forget the sign-in of the profile, here and at the issuer",
	.options_size = sizeof(struct common_options),
	.run = logout,
	.details = "Example:\n  tunnel-cli logout --profile sso\n",
};
