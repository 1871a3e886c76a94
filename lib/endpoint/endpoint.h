/* One end of a session, alive on a libuv loop: keeps a leg attached (attach, pair, resume, make before break), drives
 * the link over it, and pumps streams to and from file descriptors. The CLI and the agent's worker are both one of
 * these plus a policy of their own. One thread: the loop's. REST calls run on libuv's pool. */
#ifndef ENDPOINT_ENDPOINT_H
#define ENDPOINT_ENDPOINT_H

#include "base/err.h"
#include "link/link.h"
#include "net/tls.h"

#include <uv.h>

struct endpoint;

enum endpoint_state {
	ENDPOINT_CONNECTING, /* no epoch has been up yet */
	ENDPOINT_UP,
	ENDPOINT_LOST, /* was up, is coming back */
	ENDPOINT_OVER,
};

struct endpoint_config {
	enum link_role role;
	const char *session, *token; /* copied; the token is wiped at the end */
	const char *relay_url;
	const char *const *server_urls; /* NULL-terminated: whom to ask where the session lives */
	EVP_PKEY *key;                  /* link key and DPoP key of this end */
	unsigned char peer_pin[32];
	struct net_tls *tls; /* must outlive the endpoint */
	const char *proxy;   /* as struct ws_options.proxy */
	int64_t give_up_ms;  /* end (code LINK_TIMEOUT) when not up for so long; 0: 15 min */
};

/* Why a session ended for this end. */
struct endpoint_end {
	unsigned close_code; /* leg close code of PROTOCOL.md section 3 (4003 terminated …); 0 when the link's BYE or
				give_up ended it */
	unsigned link_code;  /* enum link_code when close_code is 0 */
	int http_status;     /* of a final refusal to attach; else 0 */
	char text[256];      /* words for people */
};

struct endpoint_callbacks {
	/* ENDPOINT_UP: outage_ms is how long it was away (0: first time). ENDPOINT_LOST: text says why; once an outage.
	 * ENDPOINT_CONNECTING: an attempt before the first success failed, text says why. ENDPOINT_OVER comes as over.
	 */
	void (*state)(void *user, enum endpoint_state state, int64_t outage_ms, const char *text);
	/* The peer asks for a stream; answer endpoint_attach_fd, or endpoint_refuse, now or later. NULL: all are
	 * refused. */
	void (*open)(void *user, uint32_t stream, const struct link_dest *dest);
	/* A stream of this end's was accepted. May be NULL. */
	void (*opened)(void *user, uint32_t stream);
	/* Reading or writing a stream's descriptor failed with that errno; stream_closed follows, with LINK_IO. May be
	 * NULL. */
	void (*local_error)(void *user, uint32_t stream, int error);
	/* A stream is done; its descriptors are closed. code LINK_OK after a clean end. Once for each stream that was
	 * opened here or told by open, also after endpoint_reset_stream and before over; not after endpoint_refuse or
	 * a failed attach. bytes_in were written to the descriptor, bytes_out read from it. */
	void (*stream_closed)(void *user, uint32_t stream, unsigned code, const char *text, uint64_t bytes_in,
			      uint64_t bytes_out);
	/* The relay's notice: unless something changes, the session ends at at_ms (Unix time) with that close code
	 * (4004 expired, 4005 idle, 4006 detached). May come again, also with other numbers. May be NULL. */
	void (*notice)(void *user, unsigned code, int64_t at_ms, const char *reason);
	/* Exactly once, last. The endpoint may be freed inside. */
	void (*over)(void *user, const struct endpoint_end *end);
};

int endpoint_start(uv_loop_t *loop, const struct endpoint_config *config, const struct endpoint_callbacks *callbacks,
		   void *user, struct endpoint **out_endpoint, struct err *e);
/* Opens a stream to dest and pumps it with in_fd (read) and out_fd (written); the same number for a socket. The
 * endpoint owns the descriptors from here on, also on failure. bytes flow when the peer has accepted. Both -1: they
 * come with endpoint_attach_fd, from `opened` on; until then nothing is read or written. */
int endpoint_open_stream(struct endpoint *ep, const struct link_dest *dest, int in_fd, int out_fd, uint32_t *out_stream,
			 struct err *e);
/* Accepts a stream of LINK_EVENT_OPEN, or takes up one that was opened without descriptors, and pumps it with these,
 * owned from here on. */
int endpoint_attach_fd(struct endpoint *ep, uint32_t stream, int in_fd, int out_fd, struct err *e);
void endpoint_refuse(struct endpoint *ep, uint32_t stream, unsigned code, const char *text);
void endpoint_reset_stream(struct endpoint *ep, uint32_t stream, unsigned code, const char *text);
/* Ends the session from this end: BYE, leg closed with 1000 (client) or 1001 (target). A client without a leg that
 * answers tells a server (DELETE), best effort. over follows, within 2 s. */
void endpoint_end(struct endpoint *ep, unsigned code, const char *text);
/* Leaves the session without ending it: leg closed with 1001, nothing said to the other end, which waits its grace.
 * over follows with close_code 0, LINK_OK and "detached". */
void endpoint_detach(struct endpoint *ep);
/* While it is frozen no byte of a stream moves to or from its descriptors; the session stays attached, and nothing is
 * lost. */
void endpoint_freeze(struct endpoint *ep, bool frozen);
/* Try a new leg now; the present one stays until the new one is attached. */
void endpoint_network_changed(struct endpoint *ep);
/* Drops the leg without a word, as a network does, and comes back: to see that it can. */
void endpoint_cut(struct endpoint *ep);
enum endpoint_state endpoint_get_state(const struct endpoint *ep);
/* Words about the last failed attempt of this outage; "" before the first. */
const char *endpoint_get_trouble(const struct endpoint *ep);
void endpoint_get_stats(const struct endpoint *ep, struct link_stats *out);
void endpoint_free(struct endpoint **ep); /* handles close in later turns of the loop; no callback any more */

#endif
