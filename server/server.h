/* What belongs to one running server; made by main.c, handed to everyone, immutable after start but for what its
 * members guard themselves. */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "server/settings.h"

#include <stdatomic.h>

struct pool;
struct reactors;
struct relay;
struct nodes;
struct peers;
struct store;
struct auth_chain;
struct policies;
struct revocations;
struct metrics;
struct audit;
struct audit_keeper;
struct sshca;
struct sessions;
struct control;
struct guesses;
struct strangers;

struct server {
	const struct settings *settings;
	const char *node;       /* this node's name, for records */
	const char *public_url; /* settings.advertise_url, or made from the listening address */
	struct metrics *metrics;
	struct pool *pool;
	struct reactors *reactors;
	struct store *store;
	struct auth_chain *auth;
	struct policies *policies;
	struct revocations *revocations;
	struct audit *audit;
	struct audit_keeper *audit_keeper;
	struct guesses *guesses;     /* NULL: nobody has to wait */
	struct strangers *strangers; /* NULL: as many as come */
	struct sshca *sshca;
	struct sessions *sessions;
	struct control *control;
	struct relay *relay;
	struct nodes *nodes; /* NULL: there are no others */
	struct peers *peers;
	atomic_bool draining;
};

#endif
