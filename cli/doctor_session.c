/* The real thing, for a moment: a session is started, its target's sshd greets, the leg is cut under it, and what this
 * end says meanwhile is answered when it has come back. Nobody logs in. */
#include "cli/doctor.h"

#include "base/clock.h"
#include "cli/ends.h"
#include "cli/mode.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIMIT_MS 45000 /* for all of it */
#define GREETING "SSH-"

struct trial {
	struct session_mode mode;
	struct doctor *doctor;
	struct session *session;
	int fd; /* our side of the stream's socket */
	uv_poll_t poll;
	uv_timer_t limit;
	int64_t began_ms, cut_ms;
	bool began, greeted;
};

static struct doctor_found *under_way(struct trial *t)
{
	return t->greeted ? &t->doctor->resume : &t->doctor->session;
}

static void fail(struct trial *t, const char *text)
{
	doctor_say(under_way(t), DOCTOR_FAILED, "%s", text);
	doctor_advise(under_way(t),
		      t->greeted
			      ? "a connection that is cut does not come back: look at what stands between "
				"here and the server, and at the server's log"
			      : "if it is the login, give one that the target has (--login); else look at the log of "
				"tunnel-agent on the target for this session");
}

static void on_limit(uv_timer_t *timer)
{
	struct trial *t = timer->data;
	char text[320];
	const char *trouble = endpoint_get_trouble(t->session->endpoint);
	snprintf(text, sizeof text, "nothing came in %d s%s%s", LIMIT_MS / 1000, *trouble ? ": " : "", trouble);
	fail(t, text);
	session_stop(t->session, EXIT_CODE_FAILED);
}

/* The client's greeting is what sshd waits for; its answer to that crosses the new leg. */
static void cut(struct trial *t)
{
	static const char hello[] = "SSH-2.0-tunnel_doctor\r\n";
	doctor_say(&t->doctor->session, DOCTOR_OK, "%s is up, and its sshd greets, after %.2f s", t->session->id,
		   (double)(clock_mono_ms() - t->began_ms) / 1000);
	t->greeted = true;
	t->cut_ms = clock_mono_ms();
	endpoint_cut(t->session->endpoint);
	if (send(t->fd, hello, sizeof hello - 1, MSG_NOSIGNAL) < 0) {
		fail(t, strerror(errno));
		session_stop(t->session, EXIT_CODE_FAILED);
	}
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct trial *t = poll->data;
	char bytes[4096];
	(void)status, (void)events;
	ssize_t n = recv(t->fd, bytes, sizeof bytes, MSG_DONTWAIT);
	if (n <= 0)
		return; /* stream_closed tells */
	if (!t->greeted && n >= (ssize_t)strlen(GREETING) && memcmp(bytes, GREETING, strlen(GREETING)) == 0) {
		cut(t);
	} else if (t->session->story.resumes > 0) {
		doctor_say(&t->doctor->resume, DOCTOR_OK, "its leg was cut; it went on after %.2f s",
			   (double)(clock_mono_ms() - t->cut_ms) / 1000);
		session_stop(t->session, EXIT_CODE_OK);
	}
}

static int begin(struct session_mode *mode, struct session *s)
{
	struct trial *t = (struct trial *)(void *)mode;
	const struct link_dest dest = { .kind = LINK_KIND_SSH };
	struct err e = { 0 };
	int pair[2];
	uint32_t stream;
	t->session = s;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
		fail(t, strerror(errno));
		return EXIT_CODE_FAILED;
	}
	t->fd = pair[0];
	t->began = true;
	uv_timer_init(&s->loop, &t->limit);
	uv_poll_init(&s->loop, &t->poll, t->fd);
	t->limit.data = t->poll.data = t;
	uv_timer_start(&t->limit, on_limit, LIMIT_MS, 0);
	uv_poll_start(&t->poll, UV_READABLE, on_readable);
	if (endpoint_open_stream(s->endpoint, &dest, pair[1], pair[1], &stream, &e) == 0)
		return EXIT_CODE_OK;
	fail(t, e.text);
	return EXIT_CODE_FAILED;
}

static void stream_closed(struct session_mode *mode, struct session *s, uint32_t stream, unsigned code,
			  const char *text)
{
	struct trial *t = (struct trial *)(void *)mode;
	char words[320];
	(void)stream;
	if (t->doctor->resume.verdict == DOCTOR_OK && t->greeted)
		return;
	snprintf(words, sizeof words, "the connection to the target's sshd ended: %s (%s)", text, link_code_name(code));
	fail(t, words);
	session_stop_unless_over(s, EXIT_CODE_FAILED, "");
}

static void on_closed(uv_handle_t *h)
{
	const struct trial *t = h->data;
	close(t->fd);
}

static void over(struct session_mode *mode, struct session *s)
{
	struct trial *t = (struct trial *)(void *)mode;
	(void)s;
	if (!t->began)
		return;
	uv_close((uv_handle_t *)&t->limit, NULL);
	uv_close((uv_handle_t *)&t->poll, on_closed);
}

/* Who answers: policy, before there is a session; then the session. */
static void judge_start(struct doctor *d, int code, const char *why)
{
	if (code == EXIT_CODE_OK) {
		doctor_say(&d->policy, DOCTOR_OK, "%s may be started on %s as %s", "a session", d->target, d->login);
		return;
	}
	if (code == EXIT_CODE_FORBIDDEN) {
		doctor_say(&d->policy, DOCTOR_FAILED, "%s", why);
		doctor_advise(&d->policy,
			      "ask who writes the policies for login %s on %s; tunnel-cli simulate-policy says "
			      "which statement decides",
			      d->login, d->target);
		return;
	}
	doctor_say(&d->session, DOCTOR_FAILED, "%s", why);
	doctor_advise(&d->session, code == EXIT_CODE_OFFLINE ? "start tunnel-agent on the target"
							     : "look at the server's log for the reason");
}

static int run_trial(struct doctor *d, struct session *s, const struct sshdir *dir)
{
	struct trial t = { .mode = { .begin = begin, .stream_closed = stream_closed, .over = over },
			   .doctor = d,
			   .began_ms = clock_mono_ms() };
	const struct session_wish wish = {
		.target = d->target, .login = d->login, .reason = "tunnel-cli doctor", .ssh_public_key = dir->public_key
	};
	char why[CLIENT_WHY] = "";
	keep_complaints(why, sizeof why);
	int code = session_start(s, &d->client, &wish);
	judge_start(d, code, why);
	if (code == EXIT_CODE_OK) {
		why[0] = '\0';
		session_run(s, &t.mode);
		if (why[0] && under_way(&t)->verdict != DOCTOR_OK)
			doctor_say(under_way(&t), DOCTOR_FAILED, "%s", why);
	}
	keep_complaints(NULL, 0);
	return code;
}

void doctor_try_session(struct doctor *d)
{
	struct err e = { 0 };
	struct sshdir dir;
	struct session s = { 0 };
	if (d->tried)
		return;
	d->tried = true;
	doctor_say(&d->policy, DOCTOR_SKIPPED, "no session was started");
	doctor_say(&d->session, DOCTOR_SKIPPED, "no session was started");
	doctor_say(&d->resume, DOCTOR_SKIPPED, "no session was up");
	if (sshdir_open(&dir, NULL, &e) != 0) {
		doctor_say(&d->session, DOCTOR_FAILED, "%s", e.text);
		doctor_advise(&d->session, "XDG_RUNTIME_DIR or TMPDIR has to name a folder that can be written");
	} else {
		run_trial(d, &s, &dir);
		session_free(&s);
	}
	sshdir_close(&dir);
}
