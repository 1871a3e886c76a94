/* What a person is told of a session's ups and downs: an outage once, its end once, in a long one a line a minute, and
 * what the server foresees. Sans-I/O: states and times in, lines out; so the tests need not wait for minutes. */
#ifndef CLI_STORY_H
#define CLI_STORY_H

#include "endpoint/endpoint.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORY_LINE 400

struct story {
	enum endpoint_state state;
	int64_t since_ms;   /* the state, on the monotonic clock */
	int64_t give_up_ms; /* how long an outage may be */
	int64_t next_ms;    /* when story_tick has something to say; INT64_MAX: never */
	unsigned resumes;
	char trouble[256]; /* the last failure */
	struct story_notice {
		unsigned code;
		int64_t at_ms;
	} notices[4];     /* told already */
	bool not_renewed; /* was told */
};

void story_begin(struct story *s, int64_t give_up_ms, int64_t mono_ms);
/* Each returns whether there is a line to tell, in out. */
bool story_state(struct story *s, enum endpoint_state state, int64_t outage_ms, const char *text, int64_t mono_ms,
		 char out[STORY_LINE]);
/* A failure to come back, for the next line; "" changes nothing. */
void story_trouble(struct story *s, const char *text);
bool story_tick(struct story *s, int64_t mono_ms, int64_t wall_ms, char out[STORY_LINE]);
bool story_notice(struct story *s, unsigned code, int64_t at_ms, const char *reason, int64_t wall_ms,
		  char out[STORY_LINE]);
/* It ends with its credential, and a fresh one is not to be had; told once until it is renewed. */
bool story_not_renewed(struct story *s, int64_t end_ms, const char *why, int64_t wall_ms, char out[STORY_LINE]);
/* That is news to whoever was told of an end. */
bool story_renewed(struct story *s, int64_t end_ms, int64_t wall_ms, char out[STORY_LINE]);
/* "session s-1 to web-1: up for 3 min, 2 streams, 1.2 MB in, …" */
void story_status(const struct story *s, const char *session, const char *target, const struct link_stats *stats,
		  int64_t mono_ms, char out[STORY_LINE]);

/* "3 min", "1.2 MB" */
void story_duration(int64_t ms, char *out, size_t size);
void story_bytes(uint64_t bytes, char *out, size_t size);

#endif
