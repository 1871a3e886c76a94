/* One WebSocket client against the peers of ws_server.py, and what it told. */
#ifndef TESTS_NET_HARNESS_H
#define TESTS_NET_HARNESS_H

#include "support/case.h"

#include "base/buf.h"
#include "base/clock.h"
#include "net/ws_client.h"

#include <sys/types.h>

enum { PORT_TLS, PORT_ELSEWHERE, PORT_PLAIN, PORT_PROXY, PORT_RAW, PORT_HTTP, PORT_DEAD, PORTS };

struct harness {
	char folder[64];
	pid_t server;
	int server_in;
	unsigned ports[PORTS];
	uv_loop_t loop;
	struct net_tls *tls;
};

struct seen_ws {
	struct harness *h;
	struct ws_client *ws;
	bool opened, ended, connected, secured;
	unsigned writable, ends;
	struct buf texts;    /* each followed by '\n' */
	uint64_t bytes, sum; /* of binary messages */
	uint64_t largest;    /* piece */
	int status;
	char body[200], reason[400];
	unsigned code;
	bool free_in_text, free_when_connected, free_when_secured;
};

int harness_setup(void **state); /* starts the server; *state is a struct harness */
int harness_teardown(void **state);

/* Options with the url of that port and path, no proxy. */
struct ws_options harness_options(struct harness *h, const char *scheme, int port, const char *path);
void harness_open(struct harness *h, const struct ws_options *options, struct seen_ws *out);
/* Runs the loop until *flag, at most ten seconds. */
void harness_wait(struct harness *h, const bool *flag);
void harness_wait_text(struct seen_ws *s, const char *texts); /* until exactly these have come */
void harness_wait_bytes(struct seen_ws *s, uint64_t bytes);
void harness_close(struct seen_ws *s); /* frees client and buffers */
extern const struct ws_callbacks harness_callbacks;

#endif
