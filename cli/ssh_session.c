#include "cli/ssh_session.h"

#include "cli/mode.h"

static int run_mode(const struct ssh_session_wish *w, struct session *s, struct sshdir *dir)
{
	if (w->stdio) {
		struct mode_stdio m = { .dest = { .kind = LINK_KIND_SSH },
					.dir = dir,
					.leave_terminal = w->leave_terminal };
		mode_stdio_init(&m);
		return session_run(s, &m.mode);
	}
	struct mode_ssh m = {
		.dir = dir, .login = w->login, .ssh_args = w->ssh_args, .argc = w->argc, .argv = w->argv
	};
	mode_ssh_init(&m);
	int code = session_run(s, &m.mode);
	mode_ssh_free(&m);
	return code;
}

int ssh_session_run(struct client *c, const struct ssh_session_wish *w)
{
	struct err e = { 0 };
	struct sshdir dir;
	struct session s = { 0 };
	int code = EXIT_CODE_FAILED;
	if (sshdir_open(&dir, w->dir, &e) != 0) {
		complain("%s", e.text);
	} else {
		const struct session_wish wish = {
			.target = w->target, .login = w->login, .reason = w->reason, .ssh_public_key = dir.public_key
		};
		code = session_start(&s, c, &wish);
	}
	if (code == EXIT_CODE_OK && sshdir_fill(&dir, json_object_get(s.answer, "ssh"), &e) != 0) {
		complain("%s", e.text);
		code = EXIT_CODE_FAILED;
	} else if (code == EXIT_CODE_OK) {
		s.give_up_ms = w->give_up_ms;
		code = run_mode(w, &s, &dir);
	}
	session_free(&s);
	sshdir_close(&dir);
	return session_leave(&s, code);
}
