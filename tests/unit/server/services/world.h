/* A whole server without sockets, for one case: services on fakes, calls as the transport would make them. */
#ifndef TESTS_SERVER_WORLD_H
#define TESTS_SERVER_WORLD_H

#include "support/case.h"

#include "fakes.h"
#include "ident/proof.h"
#include "server/api.h"
#include "server/control.h"
#include "server/server.h"
#include "server/sessions.h"

#include <openssl/evp.h>

#define HOST "node-1:8443"

struct world {
	struct server server;
	struct settings settings;
	char folder[64], ca_path[96];
	const char *ca_trusted; /* file; "": none */
	const char *from;       /* whom calls and attaches come from */
	struct conf_section provider;
	EVP_PKEY *client, *identity, *link; /* link and identity are of every target */
	char client_key[256], ssh_key[1024];
};

/* Up, with a policy that allows alice everything. */
struct world *world_up(void);
/* The process dies and comes back: memory is lost, the store is not. */
void world_restart(struct world *w);
/* As world_up left it: of all that was, its keys remain. */
void world_renew(struct world *w);
void world_down(struct world *w);

struct answer {
	int status;
	json_t *json; /* NULL: no body */
	struct api_response raw;
};
/* who: "alice", "alice guessed" (is refused), "alice dev" (a group), "alice - t2 600" (no group, credential t2, good
 * for 600 s); NULL: no credential. body: JSON text with ' for ", or NULL. */
struct answer call(struct world *w, const char *method, const char *path, const char *query, const char *who,
		   const char *body);
/* With a session token and a proof by key. */
struct answer call_with_token(struct world *w, const char *method, const char *path, const char *token, EVP_PKEY *key);
/* With a proof made at that time. */
struct answer call_with_token_at(struct world *w, const char *method, const char *path, const char *token,
				 EVP_PKEY *key, int64_t at_ms);
void answer_free(struct answer *a);
const char *text_at(const json_t *json, const char *path); /* "session.end.text"; "" when absent */

/* statements: the JSON array's content with ' for ". Under the given name. */
void put_policy(struct world *w, const char *name, const char *statements);
/* Enrols the target (unless it is) and says hello on the connection. running: "'s-1','s-2'" or "". */
void enrol(struct world *w, const char *target, const char *tags);
void hello(struct world *w, const char *target, wsconn_id conn, const char *running);
void say(struct world *w, const char *target, wsconn_id conn, const char *message);
/* Several that came together. */
void say_many(struct world *w, const char *target, wsconn_id conn, const char *const *messages, size_t n);
/* On a connection whose assertion another key than w->identity signed. */
void say_by(struct world *w, EVP_PKEY *key, const char *target, wsconn_id conn, const char *message);

/* Starts a session as alice; fails the case unless 201. allow e.g. "'127.0.0.1:5432'". Returned answer is to be freed.
 */
struct answer start_tcp(struct world *w, const char *target, const char *allow);
/* Judges an attach as the leg's transport asks for it, with a fresh proof by key. */
unsigned attach(struct world *w, const char *session, const char *token, EVP_PKEY *key, struct attach_decision *out);
unsigned attach_with(struct world *w, const char *session, const char *token, const char *proof,
		     struct attach_decision *out);
char *make_proof(EVP_PKEY *key, const char *method, const char *url, const char *token, int64_t at_ms,
		 char out[PROOF_TEXT_MAX]);
/* How many audit records of that event name the session or target; NULL: of anyone. */
size_t audited(struct world *w, const char *event, const char *key, const char *value);
/* The newest one, new reference; NULL: none. */
json_t *audit_last(struct world *w, const char *event);
/* One pass of the sweep, as if so much time had gone by. */
void sweep_in(struct world *w, int64_t ms);
/* The record as the store has it; NULL: none. */
json_t *record_of(struct world *w, const char *session);

#endif
