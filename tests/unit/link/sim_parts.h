/* What the files of the simulator share.
 *
 *   sim.c        chance, the steps of a run, how it ends, replaying a seed
 *   sim_app.c    the applications at both ends, and the model that judges them
 *   sim_net.c   legs and the relay, with all that can happen to them
 */
#ifndef TESTS_LINK_SIM_PARTS_H
#define TESTS_LINK_SIM_PARTS_H

#include "link/internal.h"
#include "sim.h"

#define SIM_STREAMS 64
#define SIM_QUEUE (48 * 1024) /* bytes that a direction of a leg holds */
#define SIM_LEGS 4 /* of an end at once: the one in use, those that knock, those the relay still believes in */
#define SIM_ITEMS 64
#define SIM_FAILED 100u /* code of a failed stream, plus the end */

enum fate {
	FATE_NONE, /* this end never heard of the stream */
	FATE_ASKED,
	FATE_OPENING,
	FATE_OPEN,
	FATE_CLEAN,
	FATE_LOCAL, /* reset or refused by this end */
	FATE_PEER,  /* by the other */
};

struct model_end {
	enum fate fate;
	unsigned code;
	bool opened, refused, finished, eof;
	bool failing; /* link_stream_fail was called; code is set, fate follows with CLOSED */
	bool waits;   /* for WRITABLE, as a real application does */
	uint64_t written, read;
};

struct model_stream {
	uint32_t id;
	int opener;
	struct link_dest dest;
	struct model_end end[2];
};

enum direction { UP, DOWN }; /* to the relay, from it */

/* What travels on a leg: runs of bytes, and the text messages between them (PROTOCOL.md, section 3). */
enum word { WORD_BYTES, WORD_ATTACHED, WORD_PAIRED, WORD_UNPAIRED, WORD_READY };

struct item {
	enum word word;
	size_t n; /* bytes; or the epoch */
};

struct pipe {
	struct buf bytes;
	struct item items[SIM_ITEMS];
	unsigned n_items;
	bool stuck, hole; /* nothing moves for a while; what is sent vanishes, for good */
};

struct leg {
	bool open; /* at its end */
	bool cut;  /* nothing more gets in; what is in may arrive yet */
	int64_t hole_at;
	struct pipe pipe[2];
};

struct sim_end {
	struct link *link;
	struct leg legs[SIM_LEGS];
	int leg; /* in use; -1: none */
	bool want_new;
	unsigned epoch; /* that it is paired in; 0: none */
};

struct sim_relay {
	int leg[2]; /* of each end; -1: none */
	unsigned epoch;
	bool paired, ready[2];
};

/* What all runs together went through, so that one sees that they did. */
struct sim_totals {
	uint64_t epochs, stalls, clean, reset, refused, failed, bytes, gated;
	unsigned cut_runs;
};

struct sim {
	const struct sim_options *options;
	uint64_t random;
	int64_t now, draining_since;
	bool draining, trace;
	unsigned faults, calm; /* had; one in so many that may come does */
	unsigned cuts;         /* of legs in use */
	unsigned pace;         /* ms that pass at once, at most */
	bool moved;            /* something, in this round of draining */
	struct sim_end end[2];
	struct sim_relay relay;
	struct model_stream streams[SIM_STREAMS];
	unsigned n_streams;
	char wrong[512];
};

/* sim.c */
extern struct sim_totals sim_totals;
unsigned sim_below(struct sim *sim, unsigned n);
unsigned sim_size(struct sim *sim, unsigned max); /* small as often as large */
void sim_wrong(struct sim *sim, const char *fmt, ...) PRINTF_LIKE(2, 3);
void sim_trace(const struct sim *sim, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* sim_app.c: the end `at` does something to a stream, or hears what its link has to say */
void app_open(struct sim *sim, int at);
void app_write(struct sim *sim, struct model_stream *m, int at, unsigned len);
void app_finish(struct sim *sim, struct model_stream *m, int at);
void app_reset(struct sim *sim, struct model_stream *m, int at);
void app_fail(struct sim *sim, struct model_stream *m, int at);
void app_answer(struct sim *sim, struct model_stream *m, int at);
void app_consume(struct sim *sim, struct model_stream *m, int at, size_t most);
void app_eof_done(struct sim *sim, struct model_stream *m, int at);
void app_take_events(struct sim *sim, int at);
void app_check_memory(struct sim *sim, int at);
void app_check_books(struct sim *sim, int at);
void app_check_end(struct sim *sim); /* after draining */

/* sim_net.c */
void net_birth(struct sim *sim);
void net_death(struct sim *sim);
void net_send(struct sim *sim, int at, size_t most);    /* end to leg */
void net_forward(struct sim *sim, int at, size_t most); /* leg to relay, and on to the other end's leg */
void net_read(struct sim *sim, int at, size_t most);    /* leg to end */
void net_attach(struct sim *sim, int at);               /* a new leg knocks; the old one stays until it is in */
void net_admit(struct sim *sim, int at);                /* the relay takes one that knocks */
bool net_knocks(const struct sim *sim, int at);
bool net_idle(const struct sim *sim);
void net_cut(struct sim *sim, int at);
void net_hole(struct sim *sim, int at);
void net_stick(struct sim *sim, int at);
void net_unstick(struct sim *sim, int at);
void net_restart(struct sim *sim); /* the relay dies, and another one is there */
int64_t net_deadline(const struct sim *sim);
void net_tick(struct sim *sim); /* legs notice by themselves that they are black holes, though late */

#endif
