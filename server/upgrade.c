/* Only the form is judged here, on the reactor: path, subprotocol, and that credentials are there at all. What they are
 * worth is found out after the upgrade, on a worker. */
#include "server/upgrade.h"

#include "base/limits.h"
#include "base/text.h"

#include <string.h>
#include <strings.h>

#define LEG_PREFIX "/v1/sessions/"
#define LEG_SUFFIX "/leg"

bool upgrade_leg_path(const char *path, char *out_session)
{
	size_t len = strlen(path), prefix = strlen(LEG_PREFIX), suffix = strlen(LEG_SUFFIX);
	if (len <= prefix + suffix || len - prefix - suffix > LIMIT_ID || strncmp(path, LEG_PREFIX, prefix) != 0 ||
	    strcmp(path + len - suffix, LEG_SUFFIX) != 0)
		return false;
	size_t n = len - prefix - suffix;
	memcpy(out_session, path + prefix, n);
	out_session[n] = '\0';
	return text_is_id(out_session);
}

/* Does a comma-separated header hold that word? */
static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);
	while (list && *list) {
		list += strspn(list, " \t,");
		size_t len = strcspn(list, " \t,");
		if (len == n && strncasecmp(list, word, n) == 0)
			return true;
		list += len;
	}
	return false;
}

static enum conn_result no(struct upgrade_refusal *out, int status, const char *code, const char *text)
{
	*out = (struct upgrade_refusal){ status, code, text };
	return CONN_CLOSE;
}

static const char *bearer_of(const struct http_head *head)
{
	const char *value = http_head_get(head, "authorization");
	if (!value || strncasecmp(value, "Bearer ", 7) != 0)
		return NULL;
	value += 7;
	value += strspn(value, " ");
	return *value && strlen(value) <= LIMIT_TOKEN ? value : NULL;
}

enum conn_result upgrade_judge(struct conn *c, const struct http_head *head, struct upgrade_refusal *out_no)
{
	char session[LIMIT_ID + 1] = "";
	bool leg = upgrade_leg_path(head->path, session);
	if (!leg && strcmp(head->path, UPGRADE_AGENT_PATH) != 0)
		return no(out_no, 404, "not-found", "there is no WebSocket endpoint at this path");
	if (head->size > LIMIT_HTTP_HEADERS || head->header_count > LIMIT_HTTP_HEADER_COUNT)
		return no(out_no, 431, "too-large", "the request's headers are over 16384 bytes or more than 64");
	if (strcmp(head->method, "GET") != 0)
		return no(out_no, 400, "invalid-request", "a WebSocket upgrade is a GET");
	if (head->chunked || head->content_length > 0 || head->content_length == HTTP_BODY_INVALID)
		return no(out_no, 400, "invalid-request", "an upgrade request has no body");
	const char *upgrade = http_head_get(head, "upgrade");
	if (!upgrade || strcasecmp(upgrade, "websocket") != 0)
		return no(out_no, 400, "invalid-request", "this is a WebSocket endpoint; send Upgrade: websocket");
	const char *version = http_head_get(head, "sec-websocket-version");
	const char *key = http_head_get(head, "sec-websocket-key");
	if (!has_word(http_head_get(head, "connection"), "upgrade") || !version || strcmp(version, "13") != 0 || !key ||
	    strlen(key) != 24)
		return no(out_no, 400, "invalid-request",
			  "an upgrade needs Connection: Upgrade, Sec-WebSocket-Version: 13 and Sec-WebSocket-Key");
	const struct conn_ops *ops = leg ? &legconn_ops : &agentconn_ops;
	const char *subprotocol = http_head_get(head, "sec-websocket-protocol");
	if (!subprotocol || strcmp(subprotocol, ops->subprotocol) != 0)
		return no(out_no, 400, "invalid-request",
			  leg ? "Sec-WebSocket-Protocol must be tunnel.leg.v1"
			      : "Sec-WebSocket-Protocol must be tunnel.control.v1");
	const char *bearer = bearer_of(head);
	if (!bearer)
		return no(out_no, 401, "unauthenticated", "Authorization: Bearer <token> is missing");
	if (leg && !http_head_get(head, "dpop"))
		return no(out_no, 401, "unauthenticated", "the DPoP header is missing");
	if (leg && !http_head_get(head, "host"))
		return no(out_no, 400, "invalid-request", "the Host header is missing");
	c->state = leg ? legconn_new(c, head, session, bearer) : agentconn_new(c, head, bearer);
	if (!c->state)
		return no(out_no, 503, "busy", "out of memory");
	c->ops = ops;
	return CONN_OK;
}
