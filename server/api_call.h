/* Inside of the API: one call on its way through the routes, and what handlers answer with. */
#ifndef SERVER_API_CALL_H
#define SERVER_API_CALL_H

#include "base/err.h"
#include "base/limits.h"
#include "server/api.h"
#include "server/auth.h"

#include <jansson.h>
#include <stdbool.h>

#define API_PARAM_TEXT (LIMIT_ID + 1)

struct api_call {
	struct server *server;
	const struct api_request *request;
	struct api_response *out;
	char param[API_PARAM_TEXT]; /* what stands for "{…}" in the route's pattern */
	struct identity id;         /* of routes that need one */
};

enum api_credential {
	API_NOBODY,   /* anybody may call */
	API_IDENTITY, /* an auth provider must name the caller */
	API_HANDLER,  /* the handler looks at the credential: session token, enrolment token */
};

struct api_route {
	const char *method, *pattern; /* "/v1/sessions/{id}": at most one parameter, a name as text_is_id has it */
	void (*handle)(struct api_call *c);
	enum api_credential credential;
	const char *action;   /* checked by the router when resource is given, else by the handler; NULL: none */
	const char *resource; /* "policy/{}": the parameter stands for {} */
};
/* Ends with method NULL. */
extern const struct api_route api_routes[];

#define API_HANDLERS(X)       \
	X(sessions_post)      \
	X(sessions_list)      \
	X(sessions_get)       \
	X(sessions_attach)    \
	X(sessions_resume)    \
	X(sessions_renew)     \
	X(sessions_delete)    \
	X(targets_list)       \
	X(targets_get)        \
	X(targets_delete)     \
	X(targets_post)       \
	X(enrollments_post)   \
	X(policies_list)      \
	X(policies_get)       \
	X(policies_put)       \
	X(policies_delete)    \
	X(policies_simulate)  \
	X(policies_who_can)   \
	X(revocations_list)   \
	X(revocations_post)   \
	X(revocations_delete) \
	X(audit_get)          \
	X(whoami_get)         \
	X(healthz_get)        \
	X(readyz_get)         \
	X(nodes_list)         \
	X(metrics_get)
#define X(name) void api_##name(struct api_call *c);
API_HANDLERS(X)
#undef X

/* Answers. json is stolen; NULL is an internal error. */
void api_answer(struct api_call *c, int status, json_t *json);
void api_answer_nothing(struct api_call *c); /* 204 */
/* An error as a problem: its code decides status and code (ERR_INVALID 400 … ). */
void api_answer_err(struct api_call *c, int rc, const struct err *e);
/* With further members, stolen; may be NULL. */
void api_answer_problem(struct api_call *c, int status, const char *code, json_t *members, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* The body as JSON, or NULL and the problem is answered. */
json_t *api_body(struct api_call *c);
/* The query as an object of strings, or NULL and the problem is answered. allowed ends with NULL; a name that ends with
 * "." is a prefix ("tag."). */
json_t *api_query(struct api_call *c, const char *const *allowed);
/* "Bearer <token>" without "Bearer "; NULL when there is none. */
const char *api_bearer(const struct api_request *q);

/* false: too many were refused, he has to wait, and that is answered. */
bool api_may_guess(struct api_call *c, const struct guess *who);
/* 429. */
void api_answer_wait(struct api_call *c, int64_t wait_s, const char *text);
/* Finds out who calls, for handlers of API_HANDLER routes. true: c->id is filled; else the problem is answered. */
bool api_identify(struct api_call *c);
/* Policy for the caller. true: go on; else the problem is answered. */
bool api_require(struct api_call *c, const char *action, const char *resource, const json_t *context);

/* A target's document (new reference), if it is there and the caller may list it; else ERR_NOT_FOUND. */
int api_seen_target(struct api_call *c, const char *id, json_t **out_doc, struct err *e);
/* A target's tags as condition keys. New reference. */
json_t *api_tags_context(const json_t *tags);

/* One page of a collection as {<name>: [views], next_cursor?}: documents in key order for which pick gives a view (0
 * and *out_view NULL: leave it out). index NULL: all documents. limit and cursor come from the query. */
typedef int api_pick_fn(struct api_call *c, void *arg, const json_t *doc, json_t **out_view, struct err *e);
struct api_list {
	const char *name, *collection, *index, *value;
	api_pick_fn *pick;
	void *arg;
};
void api_answer_list(struct api_call *c, const struct api_list *list, const json_t *query);

#endif
