/* What the files of lib/link share: a link, its streams, and who does what.
 *
 *   link.c        birth, epochs, BYE           input.c   ciphertext in: frames to effects
 *   stream.c      table, states, bookkeeping   sched.c   ciphertext out: what goes next
 *   stream_api.c  what callers do to streams   resume.c  HELLO and RESUME of a new epoch, both ways
 *   event.c       events out                   live.c    the timers
 */
#ifndef LINK_INTERNAL_H
#define LINK_INTERNAL_H

#include "base/buf.h"
#include "base/list.h"
#include "link/chunks.h"
#include "link/frame.h"
#include "link/link.h"
#include "link/tls.h"

/* milliseconds; PROTOCOL.md 4.4 */
#define LINK_IDLE_PING_MS 10000
#define LINK_BUSY_PING_MS 1000
#define LINK_DEAD_MS 3000
#define LINK_DEAD_DOUBLINGS 3   /* to 24 s; records of bulk are halved as often, to 2 KiB */
#define LINK_LIVED_MS 60000     /* an epoch that was up for so long was not too slow for its limit */
#define LINK_HANDSHAKE_MS 10000 /* from the start of an epoch to its last RESUME */
#define LINK_ACK_DELAY_MS 20    /* an ACK that nobody waits for rides with other output for so long */

#define LINK_ACK_EVERY (256u * 1024) /* bytes consumed that make an ACK urgent; or a quarter of the window */
#define LINK_SMALL (8u * 1024)       /* bytes: a stream with no more waiting goes before bulk */
#define LINK_SMALL_RUN 16            /* frames of small streams in a row before one of bulk */
#define LINK_BATCH 4096              /* bytes of small frames that share a TLS record */
#define LINK_MIN_WINDOW 256u         /* bytes */
#define LINK_MAX_WINDOW (1u << 30)
#define LINK_BUCKETS 256u
#define STREAM_EDGES 16u
#define LINK_RATE_MS 10  /* the shortest time to measure a rate over */
#define LINK_RTT_MS 1000 /* how often the round trip is measured while windows grow */

enum stream_state {
	STREAM_OPENING, /* opened here, no answer yet */
	STREAM_ASKED,   /* opened by the peer, no answer yet */
	STREAM_OPEN,
	STREAM_DONE, /* tombstone: the peer may still have to hear how it ended */
	STREAM_GONE, /* owes the peer nothing; waits until its events are taken */
};

/* Frames to send for a stream, besides DATA and FIN; sent in this order. */
enum stream_pending {
	PENDING_OPEN = 1,
	PENDING_OPENED = 2,
	PENDING_ACK = 4,
	PENDING_REFUSED = 8,
	PENDING_RESET = 16,
};

struct stream {
	struct stream *hash_next;
	struct list all;     /* link.streams, oldest first */
	struct list events;  /* link.eventful */
	struct list control; /* link.control or link.lazy */
	bool in_small;       /* which of the two queues data is in */
	struct list data;    /* link.small or link.bulk; of a tombstone: link.unconfirmed or link.confirming */
	uint64_t confirmer;  /* of a tombstone in link.confirming: the PING behind its last word */

	uint32_t id;
	enum stream_state state;
	bool local;       /* opened by this end */
	bool established; /* OPENED was sent or seen */
	bool open_ever;   /* local: OPEN was sent in some epoch, so the peer may know the stream */
	bool wired;       /* the peer knows it in this epoch; frames may be sent */
	bool listed;      /* by the peer's RESUME of this epoch */
	bool aborted;     /* this end reset or refused it */
	unsigned pending; /* enum stream_pending */
	unsigned event_mask;
	unsigned code; /* why it ended, with text (NULL: none) */
	char *text;
	struct link_dest *dest; /* until it is no more needed for OPEN or LINK_EVENT_OPEN */

	/* this end sends: out holds what the peer has not delivered */
	struct chunks out;
	uint64_t sent, sent_max; /* in this epoch; ever */
	uint64_t peer_credit;
	bool finish;             /* no more writes: FIN follows the last byte */
	bool fin_sent, fin_ever; /* in this epoch (or the peer has it); ever */
	bool fin_acked;
	bool failing; /* RESET follows when all this was delivered */
	bool blocked; /* the caller found no room and waits for WRITABLE */

	/* this end receives: in holds what the caller has not consumed */
	struct chunks in;
	uint64_t credit; /* promised, but told only with the next ACK */
	uint32_t window;
	uint64_t edges[STREAM_EDGES]; /* credits told of this window, the newest where next_edge is behind; 0: none */
	unsigned next_edge;
	bool hit_edge;      /* the peer used its credit up: the window may be too small */
	int64_t rate_at;    /* since when, and from which offset on, … */
	uint64_t rate_from; /* … it is measured how fast bytes are consumed */
	bool fin_in, eof_told, eof_done;
	uint64_t told_delivered, told_credit;
	bool told_fin;
};

enum epoch_state {
	EPOCH_NONE,
	EPOCH_HANDSHAKE, /* TLS is not done */
	EPOCH_RESUME,    /* our HELLO and RESUME are under way, the peer's last RESUME is not in */
	EPOCH_UP,
	EPOCH_BROKEN, /* TLS failed; an alert may still wait for output */
};

enum parse_step { PARSE_HEAD, PARSE_BODY, PARSE_ENTRIES, PARSE_OFFSET, PARSE_PAYLOAD };

struct parser {
	uint8_t bytes[512]; /* header, offset, or body, as they come in */
	size_t have, want;
	enum parse_step step;
	struct frame_head head;
	size_t left; /* of entries or payload of the frame */
};

struct link {
	struct link_config config; /* without zero values; key is not kept */
	struct link_tls_identity *identity;
	bool over; /* nothing but a last BYE goes out */

	/* epoch */
	enum epoch_state epoch;
	struct link_tls *tls;
	struct parser parser;
	struct buf greeting; /* HELLO and RESUME, not yet encrypted */
	bool early;          /* RESUME was empty, so OPEN need not wait for the peer's */
	bool hello_in;       /* in this epoch */
	bool pong_due;       /* for ping_in, the newest PING of the peer */
	uint64_t ping_in;
	bool bye;
	struct frame_reason bye_reason;

	/* the peer's HELLO, once there was one */
	bool hello_ever;
	struct frame_hello hello;

	/* streams */
	struct stream *buckets[LINK_BUCKETS];
	struct list streams;
	size_t n_streams, n_local, n_live; /* n_local: opened by this end */
	uint32_t next_id, peer_last_id;
	struct list control;     /* have pending frames */
	struct list lazy;        /* have an ACK pending that may wait until lazy_at */
	struct list small, bulk; /* have DATA or FIN to send */
	unsigned small_run;
	struct list unconfirmed, confirming; /* tombstones; confirming: a PING went out behind them, oldest first */
	struct list eventful;
	unsigned event_mask;
	struct stream *taken; /* its CLOSED was taken last; freed at the next look */
	struct frame_reason over_reason;

	/* bytes */
	size_t held;                  /* allocated in chunks */
	uint64_t retained;            /* written and not delivered by the peer */
	bool retained_full;           /* session window used up: only small buffers grow */
	uint64_t promised;            /* credit given and not consumed */
	uint64_t flight;              /* sent in this epoch, not delivered */
	size_t asking;                /* OPENs without answer in this epoch */
	uint64_t bytes_in, bytes_out; /* consumed, written */

	/* time */
	int64_t now, epoch_at, up_at, heard_at, outstanding_at, lazy_at, down_at;
	bool lazy_due, stalled_told;
	unsigned doublings; /* of the dead time, earned by epochs that stalled young */
	bool ping_due;
	uint64_t ping_number, ping_answered; /* of the newest PING; all up to ping_answered have their PONG */
	int64_t ping_at;                     /* when the newest went out */
	uint64_t timed_number;               /* the PING whose answer is timed, sent at timed_at */
	int64_t timed_at, rtt_ms, outage_ms;
	int64_t rtt_min_ms; /* of the epoch; -1: no PONG yet */
	uint64_t epochs;
};

enum link_event_bit { EVENT_UP = 1, EVENT_STALLED = 2, EVENT_OVER = 4 };
enum stream_event_bit {
	EVENT_OPEN = 1,
	EVENT_OPENED = 2,
	EVENT_READABLE = 4,
	EVENT_EOF = 8,
	EVENT_WRITABLE = 16,
	EVENT_CLOSED = 32,
};

static inline bool stream_is_live(const struct stream *s)
{
	return s->state == STREAM_OPENING || s->state == STREAM_ASKED || s->state == STREAM_OPEN;
}
static inline bool live_awaits_pong(const struct link *link)
{
	return link->ping_answered != link->ping_number;
}
static inline bool link_has_outstanding(const struct link *link)
{
	return link->flight > 0 || link->asking > 0 || live_awaits_pong(link);
}

/* link.c */
void link_set_now(struct link *link, int64_t now_ms);
/* The session is over for both ends: OVER is queued, BYE goes out if it can. Returns e's code, ERR_PROTOCOL for
 * LINK_PROTOCOL. All streams are gone afterwards. */
int link_fail(struct link *link, unsigned code, struct err *e);
void link_forget_streams(struct link *link);
void link_break_epoch(struct link *link);

/* stream.c */
struct stream *stream_find(const struct link *link, uint32_t id);
struct stream *stream_find_live(const struct link *link, uint32_t id);
struct stream *stream_new(struct link *link, uint32_t id, bool local, const struct link_dest *dest);
void stream_destroy(struct link *link, struct stream **s);
bool stream_table_full(const struct link *link, bool local);
void stream_move(struct link *link, struct stream *s, enum stream_state to);
void stream_set_wired(struct link *link, struct stream *s, bool wired);
void stream_set_reason(struct stream *s, unsigned code, const char *text);
size_t stream_room(const struct link *link, const struct stream *s);
void stream_check_writable(struct link *link, struct stream *s); /* after room may have grown */
void stream_check_session_room(struct link *link);               /* after retained changed */
void stream_acked(struct link *link, struct stream *s, uint64_t delivered, uint64_t credit, bool fin);
void stream_extend_credit(struct link *link, struct stream *s);
void stream_told_credit(struct stream *s); /* all of it is told now */
void stream_frame_ended(struct stream *s); /* a DATA frame came whole */
void stream_check_done(struct link *link, struct stream *s);
/* This end gives it up: a tombstone remains if the peer may know it. No event. */
void stream_abort(struct link *link, struct stream *s, unsigned code, const char *text);
/* The peer gave it up, or does not know it: CLOSED is queued; s may be freed. */
void stream_ended_by_peer(struct link *link, struct stream *s, unsigned code, const char *text);
void stream_retire(struct link *link, struct stream *s); /* nothing is owed to the peer any more; s may be freed */

/* sched.c */
void sched_control(struct link *link, struct stream *s, unsigned pending); /* adds pending frames */
void sched_ack(struct link *link, struct stream *s);                       /* ACK if there is something to tell */
void sched_data(struct link *link, struct stream *s);                      /* puts it in the right queue, or none */
void sched_remove(struct link *link, struct stream *s);

/* resume.c */
int resume_greet(struct link *link, struct err *e);
int resume_hello(struct link *link, const struct frame_hello *hello, struct err *e);
int resume_entry(struct link *link, const struct frame_entry *entry, struct err *e);
void resume_complete(struct link *link);

/* live.c */
void live_outstanding(struct link *link); /* before something that must be answered is sent */
void live_lazy(struct link *link);        /* a lazy ACK was queued */
void live_up(struct link *link);
void live_heard(struct link *link);
void live_down(struct link *link);   /* the epoch was up and is over */
void live_forget(struct link *link); /* nothing of the epoch is waited for any more */
void live_ping_sent(struct link *link);
void live_want_rtt(struct link *link); /* a PING soon, unless one has told it lately */
int live_pong(struct link *link, uint64_t number, struct err *e);

/* event.c */
void event_link(struct link *link, enum link_event_bit bit);
void event_stream(struct link *link, struct stream *s, enum stream_event_bit bit);
void event_stream_clear(struct stream *s, unsigned mask);

#endif
