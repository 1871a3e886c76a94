#include "cli/ssh_session.h"

#include "base/text.h"
#include "cli/mode.h"

/* The call, and what SSH needs of its answer. */
static int start(struct session *s, struct client *c, const struct ssh_session_wish *w, struct sshdir *dir)
{
	const struct session_wish wish = {
		.target = w->target, .login = w->login, .reason = w->reason, .ssh_public_key = dir->public_key
	};
	struct err e = { 0 };
	int code = session_start(s, c, &wish);
	if (code != EXIT_CODE_OK)
		return code;
	s->give_up_ms = w->give_up_ms;
	if (sshdir_fill(dir, json_object_get(s->answer, "ssh"), &e) == 0)
		return EXIT_CODE_OK;
	complain("%s", e.text);
	return EXIT_CODE_FAILED;
}

static int run_stdio(struct session *s, struct client *c, const struct ssh_session_wish *w, struct sshdir *dir)
{
	struct mode_stdio m = { .dest = { .kind = LINK_KIND_SSH }, .dir = dir, .leave_terminal = w->leave_terminal };
	int code = start(s, c, w, dir);
	if (code != EXIT_CODE_OK)
		return code;
	mode_stdio_init(&m);
	return session_run(s, &m.mode);
}

static int run_ssh(struct session *s, struct client *c, const struct ssh_session_wish *w, struct sshdir *dir)
{
	struct mode_ssh m = {
		.dir = dir, .login = w->login, .ssh_args = w->ssh_args, .argc = w->argc, .argv = w->argv
	};
	int code = EXIT_CODE_OK;
	mode_ssh_init(&m);
	s->client = c;
	if (text_is_id(w->target)) /* what a selector chooses is in the answer */
		code = mode_ssh_start(&m, s, w->target);
	if (code == EXIT_CODE_OK)
		code = start(s, c, w, dir);
	if (code == EXIT_CODE_OK)
		code = session_run(s, &m.mode);
	else
		mode_ssh_abandon(&m);
	mode_ssh_free(&m);
	return code;
}

int ssh_session_run(struct client *c, const struct ssh_session_wish *w)
{
	struct err e = { 0 };
	struct sshdir dir;
	struct session s = { 0 };
	int code = EXIT_CODE_FAILED;
	if (sshdir_open(&dir, w->dir, &e) != 0)
		complain("%s", e.text);
	else if (w->stdio)
		code = run_stdio(&s, c, w, &dir);
	else
		code = run_ssh(&s, c, w, &dir);
	session_free(&s);
	sshdir_close(&dir);
	return session_leave(&s, code);
}
