/* The names a policy may use: condition keys and actions. Unknown ones are refused when a policy is parsed, because a
 * Deny with a typing mistake would otherwise silently never match. */
#include "server/policy/model.h"

#include "base/text.h"

#include <stdlib.h>
#include <string.h>

static const char *const fixed_keys[POLICY_KEY_FIXED] = {
	[POLICY_KEY_LOGIN] = "tunnel:Login",
	[POLICY_KEY_HOST] = "tunnel:Host",
	[POLICY_KEY_PORT] = "tunnel:Port",
	[POLICY_KEY_PATH] = "tunnel:Path",
	[POLICY_KEY_KIND] = "tunnel:Kind",
	[POLICY_KEY_SOURCE_IP] = "tunnel:SourceIp",
	[POLICY_KEY_CURRENT_TIME] = "tunnel:CurrentTime",
	[POLICY_KEY_GROUP] = "tunnel:Group",
	[POLICY_KEY_SUBJECT] = "tunnel:Subject",
	[POLICY_KEY_PROVIDER] = "tunnel:Provider",
	[POLICY_KEY_SESSION_PRINCIPAL] = "session:Principal",
	[POLICY_KEY_SESSION_TARGET] = "session:Target",
};

static const struct {
	const char *prefix;
	enum policy_key_id id;
} open_keys[] = {
	{ "tunnel:Claim/", POLICY_KEY_CLAIM },
	{ "target:Tag/", POLICY_KEY_TAG },
};

static const char keys_allowed[] =
	"tunnel:Login, Host, Port, Path, Kind, SourceIp, CurrentTime, Group, Subject, Provider, "
	"Claim/<name>, target:Tag/<key>, session:Principal, session:Target";

static int key_id(const char *name, size_t len)
{
	for (int i = 0; i < POLICY_KEY_FIXED; i++)
		if (strlen(fixed_keys[i]) == len && memcmp(fixed_keys[i], name, len) == 0)
			return i;
	for (size_t i = 0; i < sizeof open_keys / sizeof *open_keys; i++) {
		size_t n = strlen(open_keys[i].prefix);
		if (len > n && memcmp(open_keys[i].prefix, name, n) == 0)
			return (int)open_keys[i].id;
	}
	return -1;
}

static int refuse_key(const char *name, const struct policy_path *path, struct policy_report *report)
{
	struct nearest nearest = { .wanted = name };
	for (int i = 0; i < POLICY_KEY_FIXED; i++)
		nearest_offer(&nearest, fixed_keys[i]);
	return policy_mistake(report, path, "unknown condition key \"%s\";%s allowed: %s", policy_quote(name).text,
			      nearest_words(&nearest), keys_allowed);
}

int policy_key_parse(const char *name, size_t len, const struct policy_path *path, struct policy_key *out,
		     struct policy_report *report)
{
	int id = len <= LIMIT_POLICY_TEXT ? key_id(name, len) : -1;
	char *copy = strndup(name, len);
	if (!copy)
		return policy_no_memory(report);
	if (id < 0) {
		int rc = refuse_key(copy, path, report);
		free(copy);
		return rc;
	}
	out->id = (enum policy_key_id)id;
	out->name = copy;
	return 0;
}

bool policy_key_is_known(const char *name)
{
	return key_id(name, strlen(name)) >= 0;
}

/* A time or address that is none matches nothing: in a request that was thought up, a typing mistake. */
static const char *scalar_form_missed(int id, const json_t *value)
{
	struct policy_scalar s = policy_scalar_of(value);
	struct policy_address address;
	int64_t ms;
	if (json_is_null(value))
		return NULL;
	if (id == POLICY_KEY_CURRENT_TIME && !policy_scalar_as_date(&s, &ms))
		return "date; allowed: 2026-01-31T09:15:00Z, or seconds since 1970 as a number";
	if (id == POLICY_KEY_SOURCE_IP && !policy_scalar_as_address(&s, &address))
		return "address; allowed: 192.0.2.7, 2001:db8::7";
	return NULL;
}

const char *policy_key_form_missed(const char *name, const json_t *value)
{
	int id = key_id(name, strlen(name));
	size_t n = json_array_size(value);
	const char *form = json_is_array(value) ? NULL : scalar_form_missed(id, value);
	for (size_t i = 0; !form && i < n; i++)
		form = scalar_form_missed(id, json_array_get(value, i));
	return form;
}

bool policy_key_is_list(const struct policy_key *key)
{
	return key->id == POLICY_KEY_GROUP;
}

void policy_view_init(struct policy_view *view, const struct policy_request *request)
{
	memset(view, 0, sizeof *view);
	view->request = request;
	view->resource_len = strlen(request->resource);
	view->action = policy_action_bit(request->action);
	/* Who asks is the caller's word, never the context's. */
	view->fixed[POLICY_KEY_SUBJECT] = policy_scalar_text(request->subject);
	view->has_fixed[POLICY_KEY_SUBJECT] = POLICY_LAZY_YES;
}

static const json_t *lookup(const struct policy_view *view, const struct policy_key *key)
{
	if (key->id == POLICY_KEY_GROUP)
		return view->request->groups;
	return view->request->context ? json_object_get(view->request->context, key->name) : NULL;
}

void policy_view_values(struct policy_view *view, const struct policy_key *key, struct policy_values *out)
{
	out->n = 1;
	out->array = NULL;
	out->fixed = key->id < POLICY_KEY_FIXED ? &view->fixed[key->id] : NULL;
	if (out->fixed && view->has_fixed[key->id] == POLICY_LAZY_YES)
		return;
	const json_t *value = lookup(view, key);
	if (!value || json_is_null(value)) {
		out->n = 0;
	} else if (json_is_array(value)) {
		out->n = json_array_size(value);
		out->array = value;
		out->fixed = NULL;
	} else if (out->fixed) {
		*out->fixed = policy_scalar_of(value);
		view->has_fixed[key->id] = POLICY_LAZY_YES;
	} else {
		out->own = policy_scalar_of(value);
	}
}

bool policy_view_knows(const struct policy_view *view, const struct policy_key *key)
{
	if (!(view->unknown & (1u << key->id)))
		return true;
	return key->id != POLICY_KEY_SUBJECT && key->id != POLICY_KEY_GROUP && view->request->context &&
	       json_object_get(view->request->context, key->name);
}

static const char *const actions[] = {
	"tunnel:StartSession", "tunnel:ResumeSession", "tunnel:TerminateSession", "tunnel:DescribeSessions",
	"tunnel:ListTargets",  "tunnel:EnrollTarget",  "tunnel:DeregisterTarget", "tunnel:PutPolicy",
	"tunnel:GetPolicy",    "tunnel:Revoke",        "tunnel:ReadAudit",        "tunnel:ReadMetrics",
	"tunnel:OpenSsh",      "tunnel:OpenTcp",       "tunnel:ListNodes",        "tunnel:OpenUnix",
	"tunnel:AcceptTcp",
};
#define ACTIONS (sizeof actions / sizeof *actions)
_Static_assert(POLICY_ACTIONS_ALL == (1u << ACTIONS) - 1, "one bit for each action");

const char policy_actions_allowed[] =
	"tunnel: StartSession, ResumeSession, TerminateSession, DescribeSessions, ListTargets, EnrollTarget, "
	"DeregisterTarget, PutPolicy, GetPolicy, Revoke, ReadAudit, ReadMetrics, OpenSsh, OpenTcp, OpenUnix, "
	"AcceptTcp, ListNodes";

uint32_t policy_action_bit(const char *name)
{
	for (size_t i = 0; i < ACTIONS; i++)
		if (strcmp(actions[i], name) == 0)
			return 1u << i;
	return 0;
}

void policy_actions_offer(struct nearest *n)
{
	for (size_t i = 0; i < ACTIONS; i++)
		nearest_offer(n, actions[i]);
}

uint32_t policy_action_match(const char *pattern)
{
	uint32_t found = 0;
	for (size_t i = 0; i < ACTIONS; i++)
		if (text_glob(pattern, actions[i]))
			found |= 1u << i;
	return found;
}

bool policy_action_is_known(const char *name)
{
	return policy_action_bit(name) != 0;
}

int policy_action_check(const char *action, struct err *e)
{
	struct nearest nearest = { .wanted = action };
	if (policy_action_is_known(action))
		return 0;
	policy_actions_offer(&nearest);
	return err_set(
		e, ERR_INVALID, "unknown action \"%s\";%s%s", policy_quote(action).text,
		*nearest.name ? nearest_words(&nearest) : " allowed: ", *nearest.name ? "" : policy_actions_allowed);
}
