/* What the files of lib/endpoint share.
 *
 *   endpoint.c  birth, states, the turn     ending.c  last words and the end
 *   path.c      which leg carries the link   redial.c  which leg is tried when (delays: pace.h)
 *   leg.c       one leg: WebSocket, its text messages   call.c  REST calls with the session's token
 *   pump.c      streams to and from file descriptors   proving.c  proofs, and the time in them
 */
#ifndef ENDPOINT_INTERNAL_H
#define ENDPOINT_INTERNAL_H

#include "base/list.h"
#include "endpoint/endpoint.h"
#include "endpoint/pace.h"
#include "ident/proof.h"
#include "net/watch.h"
#include "net/ws_client.h"

#define PUMP_BUCKETS 64u
#define TRIES_MAX 3u

struct leg;
struct leg_end;
struct call;

enum leg_phase {
	LEG_DIALING,
	LEG_CONNECTED, /* TCP */
	LEG_HELD,      /* TLS is done; the relay was told nothing yet */
	LEG_ASKED,     /* to be attached */
	LEG_ATTACHED,
};

struct redial {
	struct leg *tries[TRIES_MAX]; /* oldest first */
	size_t count;
	struct pace pace;
	int64_t next_at;     /* the next attempt */
	int64_t not_before;  /* the relay asked us to wait until then */
	int64_t ask_at;      /* no server is asked sooner */
	int64_t ask_ms;      /* after an answer that told nothing new it is so much later */
	int64_t tls_ms;      /* a handshake may hold up the next attempt for so long */
	int64_t patience_ms; /* with an upgrade's answer */
	int64_t stray_until; /* a request of ours may be granted that nobody waits for any more */
	unsigned made;       /* attempts since all was well */
	unsigned busy;       /* relay's answers in a row that it is */
	bool elsewhere;      /* the relay said so: a server knows where */
	size_t server_turn;
};

struct endpoint {
	uv_loop_t *loop;
	struct endpoint_callbacks callbacks;
	void *user;
	unsigned handles; /* that libuv still knows; the memory goes with the last */
	bool freed;

	enum link_role role;
	char *session, *token, *relay_url, *proxy;
	char **server_urls; /* ends with NULL */
	EVP_PKEY *key;
	struct net_tls *tls;
	int64_t give_up_ms;
	int64_t clock_ahead_ms; /* the servers' clock, of ours */

	struct link *link;
	enum endpoint_state state;
	int64_t lost_at;
	char trouble[256]; /* why the last attempt failed */
	bool unpaired;     /* the relay said so in this turn */
	char broken[256];  /* why the present epoch cannot go on; "" */

	/* path.c */
	struct leg *leg; /* attached; carries the link when paired */
	bool want_new;   /* it is not good enough: attach another */
	bool stalled;    /* that is so because the link heard nothing */
	bool revived;    /* and then it did */
	struct redial redial;
	struct watch *watch;

	struct list pumps[PUMP_BUCKETS], dirty, leaving;
	size_t n_leaving;
	bool frozen;
	int64_t swollen_at; /* when the buffers were large last; 0: the heap is as small as it gets */

	uv_check_t turn;
	uv_idle_t awake;
	uv_timer_t link_timer, retry_timer, give_up_timer;
	struct call *call; /* to a server; one at a time */
	bool ending;       /* the last words are on their way out; no stream moves any more */
	bool detaching;    /* there are none: the session goes on without this end */
	bool close_sent;   /* on the leg, behind BYE */
	bool ended;        /* `end` is set; over is due or done */
	bool over_told;
	struct endpoint_end end;
};

/* endpoint.c */
void endpoint_turn_soon(struct endpoint *ep);
void endpoint_lost(struct endpoint *ep, const char *why);
void endpoint_trouble(struct endpoint *ep, const char *what); /* an attempt failed */
/* Nothing was lost, but the link has no epoch: one leg takes over from another. That is soon over, or a loss after all.
 */
void endpoint_await_pair(struct endpoint *ep);
void endpoint_has_pair(struct endpoint *ep);

/* ending.c */
void ending_begin(struct endpoint *ep, unsigned code, const char *text);
void ending_leg_closed(struct endpoint *ep, unsigned code); /* the leg's last words were said, or it broke */
void ending_turn(struct endpoint *ep);
void endpoint_finish(struct endpoint *ep, const struct endpoint_end *end);

/* path.c */
enum renew_reason {
	RENEW_STALLED, /* the link hears nothing */
	RENEW_NETWORK, /* the way out may be another */
	RENEW_WOKE,    /* the machine slept: what is under way is dead */
};
void path_renew(struct endpoint *ep, enum renew_reason reason); /* a new leg is wanted beside the present one */
void path_hush(struct endpoint *ep);                            /* no more attempts; the leg stays for the last words */
void path_stop(struct endpoint *ep);
void path_up(struct endpoint *ep);
void path_lose(struct endpoint *ep, const char *why); /* drops the leg, tries again */
void path_refuse(struct endpoint *ep, unsigned close_code, int http_status, const char *text); /* finally */
/* False when it must not be used. */
bool path_take_relay_url(struct endpoint *ep, const char *url);
void path_watch_event(void *user, enum watch_event event); /* user: the endpoint */

/* redial.c */
void redial_start(struct endpoint *ep); /* when a leg is wanted and none is under way; harmless else */
void redial_now(struct endpoint *ep, bool all_are_dead);
void redial_stop(struct endpoint *ep);
void redial_settle(struct endpoint *ep);     /* all is well: the next outage begins anew */
void redial_keep_asked(struct endpoint *ep); /* no attempts any more, but for one that cannot be taken back */
bool redial_is_asking(const struct endpoint *ep);
bool redial_take(struct endpoint *ep, struct leg *leg); /* out of the tries; false: it is none */
void redial_progress(struct endpoint *ep, struct leg *leg);
void redial_note_end(struct endpoint *ep, const struct leg_end *end); /* what a lost leg said about the next */
void redial_failed(struct endpoint *ep, struct leg *leg, const struct leg_end *end); /* takes it out */

/* leg.c */
struct leg_end {
	unsigned code; /* WebSocket close code */
	int http_status;
	const char *relay_url; /* with 4009; "" */
	int64_t now_ms;        /* with 4402: the relay's clock; 0: it did not say */
	const char *text;
};
struct leg_callbacks {
	void (*progress)(struct endpoint *ep, struct leg *leg); /* before attached */
	void (*attached)(struct endpoint *ep, struct leg *leg);
	void (*paired)(struct endpoint *ep, struct leg *leg);
	void (*unpaired)(struct endpoint *ep, struct leg *leg);
	void (*bytes)(struct endpoint *ep, struct leg *leg, const void *data, size_t len);
	void (*notice)(struct endpoint *ep, struct leg *leg, unsigned code, int64_t at_ms, const char *reason);
	void (*closed)(struct endpoint *ep, struct leg *leg, const struct leg_end *end);
};
extern const struct leg_callbacks path_leg_callbacks;
int leg_open(struct endpoint *ep, const char *relay_url, struct leg **out_leg, struct err *e);
void leg_free(struct leg **leg); /* drops the connection */
bool leg_is_paired(const struct leg *leg);
enum leg_phase leg_phase(const struct leg *leg);
int64_t leg_phase_ms(const struct leg *leg); /* for how long it has been in it */
void leg_go(struct leg *leg);                /* LEG_HELD: asks to be attached */
bool leg_is_misrouted(const struct leg *leg);
/* Sends `ready` for the epoch of the last `paired`. */
int leg_ready(struct leg *leg);
/* Moves the link's output while the leg takes it. */
void leg_fill(struct leg *leg, int64_t now_ms);
void leg_close(struct leg *leg, unsigned code, const char *reason);
void leg_probe(struct leg *leg);
/* Final: the session is over for this end. retry for unknown ones. */
bool leg_code_is_final(unsigned code);
const char *leg_code_text(unsigned code); /* PROTOCOL.md's sentence; NULL for an unknown one */

/* call.c */
struct call_request {
	const char *method, *suffix;    /* of the session's path: "/attach", "" */
	const char *const *server_urls; /* NULL-terminated, asked in turn until one decides */
	int64_t limit_ms;               /* for all of them */
};
struct call_answer {
	int status;             /* 0: no answer came */
	const char *code;       /* of a problem; "" when it is none, as from what stands in front of a server */
	const char *relay_url;  /* of a 200 */
	const char *text;       /* else words */
	unsigned end_code;      /* of a 410: the close code of the session's end; 0: it does not say */
	int64_t retry_after_ms; /* 0: nothing said */
	int64_t now_ms;         /* the server's clock, when ours made the proof bad; else 0 */
};
typedef void (*call_done)(struct endpoint *ep, const struct call_answer *answer);
int call_start(struct endpoint *ep, const struct call_request *request, call_done done, struct err *e);
void call_cancel(struct endpoint *ep); /* no done */

/* proving.c */
int proving_make(const struct endpoint *ep, const char *method, const char *url, char out[PROOF_TEXT_MAX],
		 struct err *e);
void proving_learn_time(struct endpoint *ep, int64_t server_wall_ms); /* of now */

/* pump.c */
struct pump;
struct pump *pump_find(struct endpoint *ep, uint32_t id);
struct pump *pump_new(struct endpoint *ep, uint32_t id);               /* NULL: out of memory */
int pump_attach(struct pump *p, int in_fd, int out_fd, struct err *e); /* takes the descriptors */
bool pump_is_attached(const struct pump *p);                           /* it was given descriptors at some time */
void pump_forget(struct pump **p);                                     /* closes descriptors, without a callback */
void pump_wake(struct pump *p);
void pump_eof(struct pump *p);
/* Closes descriptors, at once, and calls stream_closed. */
void pump_done(struct pump *p, unsigned code, const char *text);
/* The same after the link's CLOSED: what was written to a socket still gets to its reader. */
void pump_closed(struct pump *p, unsigned code, const char *text);
void pumps_run(struct endpoint *ep);
void pumps_thaw(struct endpoint *ep); /* all look for what there is to do */
void pumps_end(struct endpoint *ep, unsigned code, const char *text);
void pump_close_fds(int in_fd, int out_fd);

#endif
