/* Checks in the order in which one depends on another; each says something, also when it could not look. */
#include "agent/doctor.h"

#include "agent/allow.h"
#include "agent/doctor_checks.h"
#include "agent/exits.h"
#include "agent/hostkeys.h"
#include "agent/sshd.h"
#include "base/json.h"
#include "base/secret.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const verdicts[] = { "ok", "warn", "fail", "skipped" };

void doctor_say(struct doctor *d, const char *check, enum verdict verdict, const char *advice, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	va_start(ap, fmt);
	text_vprint(text, sizeof text, fmt, ap);
	va_end(ap);
	text_make_plain(text);
	d->failed |= verdict == VERDICT_FAIL;
	d->warned |= verdict == VERDICT_WARN;
	json_array_append_new(d->checks, json_pack("{s:s, s:s, s:s, s:s*}", "check", check, "verdict",
						   verdicts[verdict], "text", text, "advice", advice));
}

static const char as_its_user[] = "run this, and the agent, as the user to whom the folder belongs";

static void check_allow(struct doctor *d)
{
	const struct settings *s = d->settings;
	char list[256] = "";
	for (size_t i = 0, len = 0; i < s->allow.n && len < sizeof list; i++)
		len += (size_t)snprintf(list + len, sizeof list - len, "%s%s", i ? ", " : "", s->allow.at[i]);
	if (s->allow.n == 0)
		doctor_say(d, "allow", VERDICT_FAIL, "list in allow what may be opened from here, such as \"ssh\"",
			   "nothing may be opened from this machine");
	else
		doctor_say(d, "allow", VERDICT_OK, NULL, "%s", list);
}

static bool is_anothers(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && st.st_uid != geteuid();
}

static void check_state_dir(struct doctor *d)
{
	const char *path = d->settings->state_dir;
	struct stat st;
	if (stat(path, &st) != 0)
		doctor_say(d, "state", VERDICT_FAIL,
			   errno == ENOENT ? "run: tunnel-agent enroll --token-file FILE" : as_its_user, "%s: %s", path,
			   strerror(errno));
	else if (st.st_uid != geteuid())
		doctor_say(d, "state", VERDICT_FAIL, as_its_user, "%s belongs to uid %u; this is uid %u", path,
			   (unsigned)st.st_uid, (unsigned)geteuid());
	else if (st.st_mode & 077)
		doctor_say(d, "state", VERDICT_FAIL, "chmod 700 it: keys are in there", "%s has mode %04o", path,
			   (unsigned)(st.st_mode & 07777));
	else if (access(path, W_OK | X_OK) != 0)
		doctor_say(d, "state", VERDICT_FAIL, "is its file system mounted read-only?",
			   "%s cannot be written: %s", path, strerror(errno));
	else
		doctor_say(d, "state", VERDICT_OK, NULL, "%s belongs to this user alone and can be written", path);
}

static void check_enrolment(struct doctor *d)
{
	struct err e = { 0 };
	EVP_PKEY *link = NULL;
	int rc = state_load(d->settings->state_dir, &d->state, &e);
	if (rc == ERR_NOT_FOUND) {
		doctor_say(
			d, "enrolment", VERDICT_FAIL,
			"get a token (tunnel-cli create-enrollment NAME), then: tunnel-agent enroll --token-file FILE",
			"this machine is no target yet");
		return;
	}
	if (!rc)
		rc = state_load_link_key(d->settings->state_dir, &link, &e);
	EVP_PKEY_free(link);
	if (rc)
		doctor_say(d, "enrolment", VERDICT_FAIL,
			   is_anothers(d->settings->state_dir)
				   ? as_its_user
				   : "mend the file's owner and mode as it says; else enrol the machine again",
			   "%s", e.text);
	else
		doctor_say(d, "enrolment", VERDICT_OK, NULL,
			   "target %s of %s; its keys are readable by this user alone", d->state.target,
			   d->state.server);
}

static void check_agent(struct doctor *d)
{
	struct err e = { 0 };
	pid_t pid = 0;
	int rc = state_holder(d->settings->state_dir, &pid, &e);
	if (rc)
		doctor_say(d, "agent", VERDICT_SKIP, NULL, "%s", e.text);
	else if (pid)
		doctor_say(d, "agent", VERDICT_OK, NULL, "runs, pid %d", (int)pid);
	else
		doctor_say(d, "agent", VERDICT_WARN, "systemctl start tunnel-agent", "does not run");
}

/* ---- sshd ---- */

/* What sshd -t says of the file, in one line. 0: nothing. */
static int ask_sshd(const char *sshd, const char *path, char *out, size_t size)
{
	char command[EXITS_PATH * 3];
	if (strchr(sshd, '\'') || strchr(path, '\''))
		return snprintf(out, size, "a path has a quote in it");
	snprintf(command, sizeof command, "'%s' -t -f '%s' 2>&1", sshd, path);
	FILE *f = popen(command, "re");
	if (!f)
		return snprintf(out, size, "%s: %s", sshd, strerror(errno));
	if (!fgets(out, (int)size, f))
		out[0] = '\0';
	out[strcspn(out, "\r\n")] = '\0';
	int status = pclose(f);
	return status == 0 ? 0 : 1;
}

static void try_sshd_config(struct doctor *d)
{
	struct grant grant = { .ssh = true, .login_count = 1 };
	struct err e = { 0 };
	char name[24], path[EXITS_PATH], said[256] = "";
	const struct passwd *user = getpwuid(geteuid());
	snprintf(grant.logins[0], sizeof grant.logins[0], "%s", user ? user->pw_name : "root");
	snprintf(name, sizeof name, "doctor-%d", (int)getpid());
	int rc = exits_path(d->settings->runtime_dir, name, "sshd", path, &e);
	if (!rc)
		rc = sshd_configure(d->settings, name, &grant, &e);
	if (rc)
		doctor_say(d, "sshd", rc == ERR_UNAVAILABLE ? VERDICT_WARN : VERDICT_FAIL,
			   rc == ERR_UNAVAILABLE ? "the server sends it when the agent connects for the first time"
						 : NULL,
			   "%s", e.text);
	else if (ask_sshd(d->settings->sshd_path, path, said, sizeof said) != 0)
		doctor_say(d, "sshd", VERDICT_FAIL, "is this OpenSSH 8 or newer? reinstall openssh-server",
			   "%s -t refuses the configuration that sessions get: %s", d->settings->sshd_path, said);
	else
		doctor_say(d, "sshd", VERDICT_OK, NULL, "%s takes the configuration that sessions get",
			   d->settings->sshd_path);
	unlink(path);
}

static void check_sshd(struct doctor *d)
{
	const struct settings *s = d->settings;
	struct allow *allow = NULL;
	struct err e = { 0 };
	bool ssh = allow_parse(s->allow.at, s->allow.n, &allow, &e) == 0 && allow_ssh(allow);
	allow_free(&allow);
	if (!ssh)
		doctor_say(d, "sshd", VERDICT_SKIP, NULL, "allow has no \"ssh\"");
	else if (strcmp(s->ssh, "sshd") != 0)
		doctor_say(d, "sshd", VERDICT_SKIP, NULL, "logins go to the daemon at %s", s->ssh);
	else if (access(s->runtime_dir, W_OK) != 0)
		doctor_say(d, "sshd", VERDICT_SKIP,
			   errno == ENOENT ? "systemctl start tunnel-agent makes it" : as_its_user, "%s: %s",
			   s->runtime_dir, strerror(errno));
	else
		try_sshd_config(d);
}

/* ---- workers ---- */

static bool is_worker(const char *pid, const char *runtime_dir, bool *out_old)
{
	char path[64], link[4096], arguments[1024];
	snprintf(path, sizeof path, "/proc/%.20s/cmdline", pid);
	FILE *f = fopen(path, "re");
	size_t len = f ? fread(arguments, 1, sizeof arguments - 1, f) : 0;
	if (f)
		fclose(f);
	arguments[len] = '\0';
	size_t first = strlen(arguments) + 1;
	if (first >= len || strcmp(arguments + first, "worker") != 0)
		return false;
	bool ours = false;
	for (size_t i = first; i < len; i += strlen(arguments + i) + 1)
		ours |= strcmp(arguments + i, runtime_dir) == 0;
	snprintf(path, sizeof path, "/proc/%.20s/exe", pid);
	ssize_t n = readlink(path, link, sizeof link - 1);
	*out_old = n > 10 && strncmp(link + n - 10, " (deleted)", 10) == 0;
	return ours;
}

static size_t count_sockets(const char *folder)
{
	size_t n = 0;
	DIR *dir = opendir(folder);
	for (const struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
		const char *dot = strrchr(entry->d_name, '.');
		n += dot && strcmp(dot, ".sock") == 0;
	}
	if (dir)
		closedir(dir);
	return n;
}

static void check_workers(struct doctor *d)
{
	const char *folder = d->settings->runtime_dir;
	size_t workers = 0, old = 0, sockets = count_sockets(folder);
	DIR *dir = opendir("/proc");
	for (const struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
		bool is_old = false;
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9' || !is_worker(entry->d_name, folder, &is_old))
			continue;
		workers++;
		old += is_old;
	}
	if (dir)
		closedir(dir);
	if (sockets > workers)
		doctor_say(d, "workers", VERDICT_WARN,
			   "systemctl restart tunnel-agent removes what is left; sessions go on",
			   "%zu sessions run, but %s has %zu sockets: some belong to workers that were killed", workers,
			   folder, sockets);
	else if (old)
		doctor_say(d, "workers", VERDICT_WARN, "they end with their sessions; nothing has to be done",
			   "%zu sessions run, %zu of them with the program from before an upgrade", workers, old);
	else
		doctor_say(d, "workers", VERDICT_OK, NULL, "%zu sessions run", workers);
}

/* ---- all of it ---- */

static void print(const struct doctor *d, bool json)
{
	size_t i;
	const json_t *one;
	if (json) {
		json_auto_t *all = json_pack("{s:b, s:O}", "ok", !d->failed, "checks", d->checks);
		char *text = all ? json_dumps(all, JSON_INDENT(2)) : NULL;
		puts(text ? text : "{}");
		free(text);
		return;
	}
	json_array_foreach(d->checks, i, one)
	{
		const char *advice = json_string_value(json_object_get(one, "advice"));
		printf("%-8s %-10s %s\n", json_string_value(json_object_get(one, "verdict")),
		       json_string_value(json_object_get(one, "check")),
		       json_string_value(json_object_get(one, "text")));
		if (advice)
			printf("%19s > %s\n", "", advice);
	}
	puts(d->failed   ? "this machine cannot serve sessions as it is"
	     : d->warned ? "nothing fails; what is marked warn may keep this machine from serving sessions"
			 : "this machine can serve sessions");
}

bool doctor_run(const struct settings *settings, const char *config, const struct err *why_not, bool json)
{
	static void (*const checks[])(struct doctor * d) = { check_allow,  check_state_dir, check_enrolment,
							     check_agent,  check_sshd,      doctor_check_servers,
							     check_workers };
	struct doctor d = { .settings = settings, .config = config ? config : AGENT_CONFIG_DEFAULT };
	d.checks = json_array();
	if (!settings)
		doctor_say(&d, "config", VERDICT_FAIL, "tunnel-agent --describe-config lists what can be set", "%s",
			   why_not->text);
	else if (!config && access(AGENT_CONFIG_DEFAULT, F_OK) != 0)
		doctor_say(&d, "config", VERDICT_WARN, "copy the sample from /usr/share/tunnel/examples",
			   "%s is not there, so every setting has its default", d.config);
	else
		doctor_say(&d, "config", VERDICT_OK, NULL, "%s", d.config);
	for (size_t i = 0; settings && i < sizeof checks / sizeof *checks; i++)
		checks[i](&d);
	print(&d, json);
	bool ok = !d.failed;
	state_free(&d.state);
	json_decref(d.checks);
	return ok;
}
