/* The policies in force: those of policy_dir and those of the store, swapped as a whole when one changes. Any thread.
 */
#ifndef SERVER_POLICIES_H
#define SERVER_POLICIES_H

#include "base/err.h"
#include "server/auth.h"
#include "server/policy/policy.h"
#include "server/policy/who.h"

struct server;
struct policies;

int policies_open_blocking(struct server *server, struct policies **out_policies, struct err *e);
void policies_close(struct policies **p);
/* Reads folder and store again; on failure the old ones stay in force. */
int policies_reload_blocking(struct policies *p, struct err *e);
/* Reads them again if those of the store are others than when they were read last. */
int policies_look_blocking(struct policies *p, bool *out_changed, struct err *e);
/* Does one of them compare the time with one that lies from first_ms to last_ms? */
bool policies_turn_anythread(struct policies *p, int64_t first_ms, int64_t last_ms);
/* The decision without the provider's authorize. */
void policies_evaluate_anythread(struct policies *p, const struct policy_request *request, struct policy_decision *out);
void policies_evaluate_any_endpoint_anythread(struct policies *p, const struct policy_request *request,
					      struct policy_decision *out);

/* The whole judgement: policies, then the provider's authorize. 0 allowed; ERR_DENIED with words that name action,
 * resource and the deciding statement (and an audit record "denied" is appended); ERR_UNAVAILABLE refuses too. extra:
 * further condition keys; may be NULL. Adds tunnel:SourceIp, tunnel:CurrentTime, tunnel:Group, tunnel:Claim/<name>. */
int policies_require_blocking(struct server *server, const struct identity *id, const char *remote_address,
			      const char *action, const char *resource, const json_t *extra, struct err *e);
/* The same without the audit record, for filtering lists. */
int policies_allows_blocking(struct server *server, const struct identity *id, const char *remote_address,
			     const char *action, const char *resource, const json_t *extra, struct err *e);

/* The same, and the next two functions, with all that can be asked. */
struct policies_question {
	const struct identity *id;
	const char *remote_address;
	const char *action, *resource;
	const json_t *extra; /* may be NULL */
	bool any_endpoint;   /* for every tunnel:Host and tunnel:Port, which extra must not have. A provider is asked
			      * once, without them */
};
enum policies_how {
	POLICIES_REQUIRE, /* policies_require_blocking */
	POLICIES_ALLOWS,  /* policies_allows_blocking */
	POLICIES_DENIES,  /* policies_denies_anythread: asks nobody, so nothing hangs */
};
/* *out_decision (may be NULL): what the policies alone said. */
int policies_ask_blocking(struct server *server, const struct policies_question *question, enum policies_how how,
			  struct policy_decision *out_decision, struct err *e);

/* ERR_DENIED, with such words, when a statement denies it; 0 when none does, whether or not one allows it. Asks nobody.
 */
int policies_denies_anythread(struct server *server, const struct identity *id, const char *remote_address,
			      const char *action, const char *resource, const json_t *extra, struct err *e);
/* The same, and the statement. */
int policies_denying_anythread(struct server *server, const struct identity *id, const char *remote_address,
			       const char *action, const char *resource, const json_t *extra,
			       struct policy_decision *out, struct err *e);

/* The policies API's own work: validated, stored, in force when it returns. Other nodes are told by a message on the
 * store's channel POLICIES_CHANNEL, {"node", "name"}: whoever subscribes there reloads. */
#define POLICIES_CHANNEL "policies"
int policies_put_blocking(struct policies *p, const char *name, const json_t *document, struct err *e);
/* What put and del would refuse, before anything is written. mistakes: of the document, as policy_parse has them. */
int policies_may_put(struct policies *p, const char *name, const json_t *document, struct policy_mistakes *mistakes,
		     struct err *e);
int policies_may_del_blocking(struct policies *p, const char *name, struct err *e);
int policies_get_blocking(struct policies *p, const char *name, json_t **out_document, struct err *e);
int policies_del_blocking(struct policies *p, const char *name, struct err *e); /* ERR_CONFLICT for one of policy_dir */
json_t *policies_list(struct policies *p);                                      /* [{"name","source":"file"|"store"}] */

/* What the policies in force say to a request that nobody made: *out_answer is {"effect": "allow"|"deny"|"no-match",
 * "policy", "statement"}, the last two null when nothing matches. groups and context may be NULL; tunnel:CurrentTime is
 * now unless the context says otherwise. ERR_INVALID for an unknown action, or a context key or value that no real
 * request can have: a typing mistake must not read like a refusal. */
int policies_simulate(struct policies *p, const char *subject, const json_t *groups, const char *action,
		      const char *resource, const json_t *context, json_t **out_answer, struct err *e);
/* The check of a context that policies_simulate makes. ERR_INVALID. */
int policies_check_context(const json_t *context, struct err *e);
/* policy_who() over the policies in force. */
int policies_who(struct policies *p, const char *resource, const struct policy_who_question *questions, size_t n,
		 json_t **out_rows, bool *out_more, struct err *e);

#endif
