/* What a parsed policy is made of. For the files of this folder only. */
#ifndef SERVER_POLICY_MODEL_H
#define SERVER_POLICY_MODEL_H

#include "base/limits.h"
#include "base/nearest.h"
#include "server/policy/policy.h"

#include <stdint.h>

/* Where in the document we are: "Statement[2].Condition.StringEquals". */
struct policy_path {
	char text[192];
};
struct policy_path policy_path_key(const struct policy_path *parent, const char *key);
struct policy_path policy_path_index(const struct policy_path *parent, size_t index);
/* Text from the document as a complaint may show it: printable ASCII, cut. */
struct policy_quote {
	char text[49];
};
struct policy_quote policy_quote(const char *text);
/* What is found wrong while a document is read. Reading goes on behind a mistake, so that one answer has them all: who
 * calls a reader for several things stops for nothing but policy_stops(). */
struct policy_report {
	struct policy_mistakes *mistakes;
	struct err *e;
	size_t n;
};
/* "<path>: <what is wrong; what is allowed>". ERR_INVALID. */
int policy_mistake(struct policy_report *report, const struct policy_path *path, const char *fmt, ...)
	PRINTF_LIKE(3, 4);
int policy_no_memory(struct policy_report *report); /* ERR_NOMEM */
static inline bool policy_stops(int rc)
{
	return rc != 0 && rc != ERR_INVALID;
}
/* Calls fn for a lone value, or for each entry of an array, with its path. An empty array is a mistake. 0, or what the
 * last call that failed returned. */
typedef int policy_item_fn(void *arg, const json_t *item, const struct policy_path *path, struct policy_report *report);
int policy_each(const json_t *list, const struct policy_path *path, policy_item_fn *fn, void *arg,
		struct policy_report *report);
/* For jansson's iterators, which do not change what they walk but do not say so. */
static inline json_t *policy_walkable(const json_t *object)
{
	return (json_t *)(uintptr_t)object;
}
size_t policy_list_size(const json_t *list); /* how often policy_each will call */

/* value.c: scalars of a request, and the typed values of a policy */

struct policy_number {
	bool whole;
	int64_t i;
	double r;
};
struct policy_address {
	bool v6;
	uint8_t bytes[16]; /* v4: the first four. A v4-mapped v6 address is a v4 one */
};
struct policy_net {
	struct policy_address base;
	unsigned bits;
};

enum policy_lazy { POLICY_LAZY_UNKNOWN, POLICY_LAZY_NO, POLICY_LAZY_YES };

struct policy_scalar {
	enum { POLICY_SCALAR_ALIEN, POLICY_SCALAR_TEXT, POLICY_SCALAR_NUMBER, POLICY_SCALAR_BOOL } type;
	const char *text;
	size_t len;
	struct policy_number number;
	bool truth;
	/* what the text means, found out when first asked */
	enum policy_lazy has_date, has_address;
	int64_t date_ms;
	struct policy_address address;
};

#define POLICY_SCRATCH 40 /* room for any number as text */

struct policy_scalar policy_scalar_of(const json_t *value); /* objects, arrays and null are ALIEN: they match nothing */
struct policy_scalar policy_scalar_text(const char *text);
/* The scalar as text; numbers are printed into scratch. NULL for ALIEN. */
const char *policy_scalar_as_text(const struct policy_scalar *s, char scratch[POLICY_SCRATCH], size_t *out_len);
bool policy_scalar_as_number(const struct policy_scalar *s, struct policy_number *out);
bool policy_scalar_as_date(struct policy_scalar *s, int64_t *out_ms); /* RFC 3339, or seconds since 1970 */
bool policy_scalar_as_bool(const struct policy_scalar *s, bool *out);
bool policy_scalar_as_address(struct policy_scalar *s, struct policy_address *out);
int policy_number_compare(const struct policy_number *a, const struct policy_number *b);
/* "10.0.0.0/8", "2001:db8::7". NULL, or a sentence about what is wrong. */
const char *policy_net_parse(const char *text, struct policy_net *out);
bool policy_net_holds(const struct policy_net *net, const struct policy_address *a);

/* keys.c: which keys a request can have, and their values */

enum policy_key_id {
	POLICY_KEY_LOGIN,
	POLICY_KEY_HOST,
	POLICY_KEY_PORT,
	POLICY_KEY_PATH,
	POLICY_KEY_KIND,
	POLICY_KEY_SOURCE_IP,
	POLICY_KEY_CURRENT_TIME,
	POLICY_KEY_GROUP,
	POLICY_KEY_SUBJECT,
	POLICY_KEY_PROVIDER,
	POLICY_KEY_SESSION_PRINCIPAL,
	POLICY_KEY_SESSION_TARGET,
	POLICY_KEY_FIXED, /* how many have a fixed name */
	POLICY_KEY_CLAIM = POLICY_KEY_FIXED,
	POLICY_KEY_TAG,
};
struct policy_key {
	enum policy_key_id id;
	char *name; /* as in the context */
};

/* A request being judged, with what was already found out about it. */
struct policy_view {
	const struct policy_request *request;
	uint32_t unknown; /* bits (1 << policy_key_id) of the keys that may have any value, or none, unless the context
			   * has them (who.h; the endpoint of a request for any); 0 else */
	size_t resource_len;
	uint32_t action; /* bit of the action; 0: unknown, matches nothing */
	struct policy_scalar fixed[POLICY_KEY_FIXED];
	enum policy_lazy has_fixed[POLICY_KEY_FIXED];
};
/* The values of one key. n 0: the request does not have the key. */
struct policy_values {
	size_t n;
	const json_t *array;         /* NULL: one value */
	struct policy_scalar *fixed; /* the one value, when the view keeps it */
	struct policy_scalar own;
};

int policy_key_parse(const char *name, size_t len, const struct policy_path *path, struct policy_key *out,
		     struct policy_report *report);
bool policy_key_is_list(const struct policy_key *key); /* may have several values: not for variables */
void policy_view_init(struct policy_view *view, const struct policy_request *request);
void policy_view_values(struct policy_view *view, const struct policy_key *key, struct policy_values *out);
bool policy_view_knows(const struct policy_view *view, const struct policy_key *key);

/* Actions are bits. */
#define POLICY_ACTIONS_ALL ((1u << 17) - 1)
uint32_t policy_action_bit(const char *name);      /* 0: unknown */
uint32_t policy_action_match(const char *pattern); /* wildcards; 0: no action of that name */

void policy_actions_offer(struct nearest *n);
extern const char policy_actions_allowed[]; /* for complaints */

/* pattern.c: text with wildcards and ${variables} */

enum policy_piece_kind { POLICY_PIECE_TEXT, POLICY_PIECE_RUN, POLICY_PIECE_ONE };
struct policy_piece {
	enum policy_piece_kind kind;
	const char *text;
	size_t len;
};
struct policy_variable {
	size_t piece; /* which piece its value becomes */
	struct policy_key key;
	char *fallback; /* NULL: none */
};
struct policy_pattern {
	char *store; /* all text of the pieces */
	struct policy_piece *pieces;
	size_t n;
	struct policy_variable *variables;
	size_t variable_count;
};

enum policy_match { POLICY_MATCH_NO, POLICY_MATCH_YES, POLICY_MATCH_UNSET /* a variable has no value */ };

/* like: '*' and '?' are wildcards; else they are plain text. */
int policy_pattern_parse(const char *text, bool like, const struct policy_path *path, struct policy_pattern *out,
			 struct policy_report *report);
void policy_pattern_free(struct policy_pattern *p);
enum policy_match policy_pattern_match(const struct policy_pattern *p, struct policy_view *view, bool ignore_case,
				       const char *text, size_t len);
/* Has it a variable that the view does not know? */
bool policy_pattern_is_open(const struct policy_pattern *p, const struct policy_view *view);
/* May it match, whatever the values of such variables are? */
bool policy_pattern_may_match(const struct policy_pattern *p, struct policy_view *view, const char *text, size_t len);

/* condition.c */

struct policy_operator;
union policy_operand {
	struct policy_pattern pattern;
	struct policy_number number;
	int64_t date_ms;
	bool truth;
	struct policy_net net;
};
enum policy_set { POLICY_SET_NONE, POLICY_SET_ANY, POLICY_SET_ALL };
struct policy_condition {
	const struct policy_operator *op;
	enum policy_set set;
	bool if_exists;
	struct policy_key key;
	union policy_operand *operands;
	size_t n;
	const char *op_text;  /* as in the document: "ForAnyValue:StringLike"; as in the document are */
	const json_t *values; /* the operands: borrowed from the policy's copy of it */
};

/* The whole Condition element. */
int policy_conditions_parse(const json_t *element, const struct policy_path *path, struct policy_condition **out,
			    size_t *out_n, struct policy_report *report);
void policy_conditions_free(struct policy_condition **conditions, size_t n);
/* effect decides which way an inverted operator goes when a variable has no value: never towards access. */
bool policy_condition_holds(const struct policy_condition *c, enum policy_effect effect, struct policy_view *view);
/* Does it compare the time with one that lies from first_ms to last_ms? */
bool policy_condition_turns(const struct policy_condition *c, int64_t first_ms, int64_t last_ms);
/* Does it depend on something that the view does not know? Then the above says nothing. */
bool policy_condition_is_open(const struct policy_condition *c, const struct policy_view *view);

/* evaluate.c */

enum policy_truth { POLICY_NO, POLICY_YES, POLICY_UNKNOWN };

/* the policy */

struct policy_names { /* sorted */
	char **at;
	size_t n;
	bool all; /* "*" */
};
struct policy_statement {
	char name[65]; /* Sid, or "Statement[2]" */
	enum policy_effect effect;
	bool not_principal, not_resource;
	struct policy_names users, groups;
	uint32_t actions; /* NotAction is turned into what it leaves */
	struct policy_pattern *resources;
	size_t resource_count;
	const json_t *resource; /* the element, borrowed from the policy's document */
	struct policy_condition *conditions;
	size_t condition_count;
};
bool policy_names_hold(const struct policy_names *names, const char *name);
/* UNKNOWN only with a view that does not know everything. */
enum policy_truth policy_resource_judge(const struct policy_statement *s, struct policy_view *view);
/* What all of its conditions say together; the principal is not asked. */
enum policy_truth policy_conditions_judge(const struct policy_statement *s, struct policy_view *view);
struct policy {
	char name[65];
	json_t *document; /* a copy of its own */
	struct policy_statement *statements;
	size_t n;
};

#endif
