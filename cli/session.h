/* StartSession from this end: keys made for it, the call, and the endpoint that lives from the answer. */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include "cli/client.h"
#include "endpoint/endpoint.h"

#include <uv.h>

struct session_wish {
	const char *target;           /* id, or "tag:k=v[,k=v]" */
	const char *login;            /* kind ssh */
	const struct arg_list *allow; /* kind tcp: "host:port" each; NULL: kind ssh */
	const char *reason;
	const char *ssh_public_key; /* kind ssh */
};

struct session {
	struct client *client;
	EVP_PKEY *key;           /* link and DPoP key, made for this session */
	json_t *answer;          /* of POST /v1/sessions */
	const char *id, *target; /* borrowed from answer */
	/* once it runs */
	uv_loop_t loop;
	struct net_tls *tls;
	struct endpoint *endpoint;
	uv_signal_t on_int, on_term, on_hup;
	uv_timer_t stop_timer;
	struct session_mode *mode;
	int exit_code; /* of the program, once over */
	bool over, stopping, loop_ready;
};

/* What a mode (ssh, stdio, port-forward) does with a running session. */
struct session_mode {
	int (*begin)(struct session_mode *mode, struct session *s); /* opens streams, listeners, processes; exit code */
	void (*opened)(struct session_mode *mode, struct session *s, uint32_t stream);
	void (*stream_closed)(struct session_mode *mode, struct session *s, uint32_t stream, unsigned code,
			      const char *text);
	void (*interrupted)(struct session_mode *mode, struct session *s, int signum);
	void (*over)(struct session_mode *mode, struct session *s); /* the session is over: close all handles */
};

/* Complains and returns the exit code, or EXIT_CODE_OK. s is usable by session_free either way. */
int session_start(struct session *s, struct client *client, const struct session_wish *wish);
/* Runs the mode until the session is over; returns the exit code. */
int session_run(struct session *s, struct session_mode *mode);
/* Ends the session from this end; the program's exit code will be code, unless the session was ended from elsewhere
 * before. */
void session_stop(struct session *s, int exit_code);
void session_free(struct session *s);

/* A line of progress on stderr, unless --quiet; right on a raw terminal too. */
void session_tell(const struct session *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
