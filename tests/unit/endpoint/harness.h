/* Two endpoints of one session on one loop, with the relay of relay.py between them. */
#ifndef TESTS_ENDPOINT_HARNESS_H
#define TESTS_ENDPOINT_HARNESS_H

#include "support/case.h"

#include "base/clock.h"
#include "endpoint/endpoint.h"
#include "ident/key.h"

#include <pthread.h>
#include <sys/types.h>

#define STREAMS_MAX 16

/* Callbacks that an end can be freed in. */
enum moment { AT_NONE, AT_CONNECTING, AT_UP, AT_LOST, AT_OPEN, AT_OPENED, AT_CLOSED, AT_NOTICE, AT_OVER, MOMENTS };

struct closed_stream {
	bool done;
	unsigned code;
	char text[256];
	uint64_t in, out;
};

/* One end and all it told. */
struct end {
	struct harness *h;
	struct endpoint *ep;
	unsigned ups, losts, asked, overs;
	bool up, over;
	enum moment free_at;
	int64_t outage_ms;
	char trouble[300], lost[300];
	struct endpoint_end end;
	unsigned notices, notice_code;
	int64_t notice_at;
	char notice_reason[300];
	struct closed_stream streams[2 * STREAMS_MAX]; /* by id */
	unsigned closed;
	void (*on_open)(struct end *end, uint32_t stream, const struct link_dest *dest);
	int given[2]; /* descriptors that on_open may use */
};

struct harness {
	char folder[64];
	pid_t relay;
	FILE *to, *from;
	unsigned port_a, port_b, port_rest;
	char url_a[64], url_b[64], url_rest[64];
	uv_loop_t loop;
	struct net_tls *tls;
	EVP_PKEY *client_key, *target_key;
	struct end client, target;
	unsigned echoes; /* threads of the echo service that run */
	int64_t give_up_ms;
	bool no_servers;
};

int harness_setup(void **state);
int harness_teardown(void **state);
void harness_start(struct harness *h, struct end *end, enum link_role role, const char *relay_url);
void harness_start_both(struct harness *h); /* until both are up */
/* A command for the relay; its answer. */
const char *harness_tell(struct harness *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
unsigned harness_stat(struct harness *h, const char *name);
/* Runs the loop until the condition, at most 60 s. */
#define HARNESS_UNTIL(h, condition)                                                                                \
	do {                                                                                                       \
		int64_t until_ = clock_mono_ms() + 60000;                                                          \
		while (!(condition)) {                                                                             \
			if (clock_mono_ms() > until_)                                                              \
				fail_msg("not in time: %s; client: %s / %s / %s", #condition, (h)->client.trouble, \
					 (h)->client.lost, (h)->client.end.text);                                  \
			harness_turn(h);                                                                           \
		}                                                                                                  \
	} while (0)
void harness_turn(struct harness *h); /* one round of the loop, at most 20 ms */

/* on_open: accepts with a socket pair, whose other end a thread echoes until its end. */
void harness_echo(struct end *end, uint32_t stream, const struct link_dest *dest);
extern const struct link_dest harness_dest;

/* An application that writes total bytes of a pattern to fd, reads as many back, compares, and half-closes. */
struct app {
	int fd;
	uint64_t total, written, read;
	unsigned seed;
	bool equal, saw_end;
	_Atomic bool done;
	pthread_t thread;
};
void app_start(struct app *app, int fd, uint64_t total, unsigned seed);
uint32_t harness_open_app(struct harness *h, struct app *app, uint64_t total, unsigned seed);
void app_join(struct app *app);

#endif
