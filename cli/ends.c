#include "cli/ends.h"

#include "cli/command.h"

#define AGAIN "start a new one"
static const char come_back[] = "if it still goes on, resume-session comes back to it";

/* code: of a leg's close (PROTOCOL.md, section 3), or 4000 + the HTTP status of a refusal to attach. */
static const struct ending_row {
	unsigned code;
	struct session_ending ending;
	bool own_words; /* say it in ours whatever the server says */
} rows[] = {
	{ 4000, { EXIT_CODE_SESSION_OVER, true, "it was ended", NULL }, false },
	{ 4001, { EXIT_CODE_REPLACED, false, "the session was resumed by another client", NULL }, true },
	{ 4003, { EXIT_CODE_SESSION_OVER, true, "an operator ended it", NULL }, false },
	{ 4004, { EXIT_CODE_EXPIRED, true, "it reached its maximum duration", AGAIN }, false },
	{ 4005, { EXIT_CODE_IDLE, true, "it was idle too long", AGAIN }, false },
	{ 4006, { EXIT_CODE_DETACHED, true, "one of its ends was away too long", AGAIN }, false },
	{ 4007, { EXIT_CODE_REVOKED, true, "policy no longer allows it", NULL }, false },
	{ 4008, { EXIT_CODE_FAILED, false, "the server calls a message of this client malformed", NULL }, false },
	{ 4011, { EXIT_CODE_TARGET_GONE, true, "the target was deregistered", NULL }, false },
	{ 4013, { EXIT_CODE_REFUSED, true, "the target's agent refused it", NULL }, false },
	{ 4401, { EXIT_CODE_UNAUTHENTICATED, false, "the server no longer takes its token", come_back }, false },
	{ 4403, { EXIT_CODE_FORBIDDEN, false, "policy says no", NULL }, false },
	{ 4404, { EXIT_CODE_NOT_FOUND, true, "the server does not know it", AGAIN }, false },
	{ 4410, { EXIT_CODE_SESSION_OVER, true, "it has ended", NULL }, false },
};

static void look_up(unsigned code, const char *reason, struct session_ending *out)
{
	*out = (struct session_ending){ EXIT_CODE_SESSION_OVER, false, "it is over", NULL };
	bool own_words = false;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		if (rows[i].code == code) {
			*out = rows[i].ending;
			own_words = rows[i].own_words;
		}
	}
	if (reason && *reason && !own_words)
		out->text = reason;
}

static void look_up_link_code(unsigned code, const char *reason, struct session_ending *out)
{
	switch (code) {
	case LINK_TIMEOUT: /* this end gave up; the session may go on without it */
		*out = (struct session_ending){ EXIT_CODE_UNREACHABLE, false, reason, come_back };
		break;
	case LINK_EXPIRED:
		look_up(4004, reason, out);
		break;
	case LINK_PROTOCOL:
	case LINK_INTERNAL:
		*out = (struct session_ending){ EXIT_CODE_FAILED, true, reason, AGAIN };
		break;
	default:
		look_up(4000, reason, out);
	}
}

void ending_of_endpoint(const struct endpoint_end *end, bool resumable, struct session_ending *out)
{
	if (end->close_code)
		look_up(end->close_code, end->text, out);
	else if (end->http_status)
		look_up(4000u + (unsigned)end->http_status, end->text, out);
	else
		look_up_link_code(end->link_code, end->text, out);
	if (out->next == come_back && !resumable)
		out->next = AGAIN;
}

void ending_of_record(unsigned code, const char *reason, struct session_ending *out)
{
	look_up(code, reason, out);
}

int exit_of_stream(unsigned link_code)
{
	switch (link_code) {
	case LINK_OK:
		return EXIT_CODE_OK;
	case LINK_IO:
	case LINK_UNKNOWN_STREAM:
	case LINK_PROTOCOL:
	case LINK_INTERNAL:
		return EXIT_CODE_FAILED;
	default:
		return EXIT_CODE_REFUSED;
	}
}
