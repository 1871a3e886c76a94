/* A session from this end: keys made for it, the call that starts or resumes it (session.c), and the endpoint that
 * lives from the answer (session_run.c). */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include "cli/client.h"
#include "cli/renewal.h"
#include "cli/status_socket.h"
#include "cli/story.h"
#include "endpoint/endpoint.h"

#include <uv.h>

struct session_wish {
	const char *target;       /* id, or "tag:k=v[,k=v]" */
	const char *login;        /* kind ssh */
	const char *const *allow; /* kind tcp: entries of StartSession's allow; NULL: kind ssh */
	size_t allow_n;
	const char *reason;
	const char *ssh_public_key; /* kind ssh */
};

#define SESSION_SIGNALS 5

struct renew_call;

struct session {
	struct client *client;
	EVP_PKEY *key;           /* link and DPoP key, made for this session */
	json_t *answer;          /* of POST /v1/sessions or …/resume */
	const char *id, *target; /* borrowed from answer */
	int64_t expires_ms;      /* 0: the server did not say */
	struct renewal renewal;  /* of a session that ends with its credential */
	int64_t give_up_ms;      /* set before session_run; 0: 15 min */
	uv_loop_t loop;          /* of session_open_loop */
	/* once it runs */
	struct net_tls *tls;
	struct endpoint *endpoint;
	uv_signal_t signals[SESSION_SIGNALS];
	uv_timer_t stop_timer, story_timer, renew_timer;
	struct renew_call *renew_call; /* under way, or NULL */
	struct story story;
	struct status_socket status;
	struct session_mode *mode;
	char complaint[320]; /* of session_stop_unless_over */
	int later_code;
	int local_error; /* errno of the stream that failed last at this end */
	int exit_code;   /* of the program, once over */
	bool over, stopping, detaching, loop_ready;
	bool gone; /* once over: nobody can come back to the session */
	bool rest; /* work of the loop's is left behind: it is not waited for */
};

/* What a mode (ssh, stdio, port-forward) does with a running session. */
struct session_mode {
	int (*begin)(struct session_mode *mode, struct session *s); /* opens streams, listeners, processes; exit code */
	void (*opened)(struct session_mode *mode, struct session *s, uint32_t stream);
	/* The target asks for a stream; as endpoint_callbacks.open. NULL: all are refused. */
	void (*asked)(struct session_mode *mode, struct session *s, uint32_t stream, const struct link_dest *dest);
	void (*stream_closed)(struct session_mode *mode, struct session *s, uint32_t stream, unsigned code,
			      const char *text);
	void (*interrupted)(struct session_mode *mode, struct session *s, int signum);
	void (*renewed)(struct session_mode *mode, struct session *s); /* its end has moved; may be NULL */
	void (*over)(struct session_mode *mode, struct session *s);    /* the session is over: close all handles */
	void (*hurry)(struct session_mode *mode, struct session *s); /* what is left of the mode must not be waited for;
									may be NULL */
	bool resumable; /* resume-session can come back to it from another process */
};

/* For a mode that starts something before there is a session to run; session_run does it otherwise. Complains. */
int session_open_loop(struct session *s);
/* s: zeroed, or with a loop. Both complain and return the exit code, or EXIT_CODE_OK. s is usable by session_free
 * either way. From here on the first SIGINT, SIGTERM or SIGHUP ends the session in order, once it runs; the second one
 * the program. */
int session_start(struct session *s, struct client *client, const struct session_wish *wish);
int session_resume(struct session *s, struct client *client, const char *id);
/* When it ends, by the session object of an answer. */
void session_take_times(struct session *s, const json_t *view);
/* --give-up; NULL: the default. Complains. */
int session_give_up(const char *text, int64_t *out_ms);
/* Which of those signals came before session_run; 0: none. */
int session_interrupted(void);
/* Runs the mode until the session is over; returns the exit code. */
int session_run(struct session *s, struct session_mode *mode);
/* Ends the session from this end; the program's exit code will be code, unless the session was ended from elsewhere
 * before. */
void session_stop(struct session *s, int exit_code);
/* For when a stream was taken away with a code that most likely is the session's end, of which the endpoint tells in a
 * moment: stops the session with this code and complaint ("": none) if it does not. */
void session_stop_unless_over(struct session *s, int exit_code, const char *complaint);
bool session_code_ends_streams(unsigned code); /* the code may be such a one */
/* Leaves it for resume-session. */
void session_detach(struct session *s);
void session_tell_status(struct session *s); /* also with --quiet: somebody asked */
/* When something is left that must not be waited for (a call that hangs), the program ends with exit_code as soon as
 * the caller has cleaned up: session_leave. */
void session_free(struct session *s);
int session_leave(const struct session *s, int exit_code);

/* A line of progress on stderr, unless --quiet; right on a raw terminal too. */
void session_tell(const struct session *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
