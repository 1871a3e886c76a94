#include "agent/enroll.h"

#include "agent/state.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"
#include "ident/key.h"
#include "net/http.h"
#include "net/url.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

int enroll_read_token(const char *path, char **out_token, struct err *e)
{
	struct buf b;
	int rc = strcmp(path, "-") == 0 ? file_read_fd(STDIN_FILENO, "stdin", LIMIT_TOKEN, &b, e)
					: file_read(path, LIMIT_TOKEN, &b, e);
	if (rc)
		return err_wrap(e, "enrolment token");
	const char *from = (const char *)buf_data(&b), *to = from + b.len;
	while (from < to && strchr(" \t\r\n", *from))
		from++;
	while (to > from && strchr(" \t\r\n", to[-1]))
		to--;
	char *token = strndup(from, (size_t)(to - from));
	buf_wipe_free(&b);
	if (!token)
		return err_set(e, ERR_NOMEM, "out of memory");
	if (!*token) {
		free(token);
		return err_set(e, ERR_INVALID, "enrolment token: %s is empty", strcmp(path, "-") == 0 ? "stdin" : path);
	}
	*out_token = token;
	return 0;
}

static int post(const struct settings *s, const char *server, const char *token, const char *body,
		struct http_response *out, struct err *e)
{
	char url[1024], header[LIMIT_TOKEN + 32];
	int rc = url_join(server, "/v1/targets", url, sizeof url, e);
	if (rc)
		return rc;
	for (const char *c = token; *c; c++)
		if (*c <= ' ' || *c >= 0x7f)
			return err_set(e, ERR_INVALID, "enrolment token: it has spaces or control characters");
	if (snprintf(header, sizeof header, "Authorization: Bearer %s", token) >= (int)sizeof header)
		return err_set(e, ERR_LIMIT, "enrolment token: longer than %u bytes", LIMIT_TOKEN);
	const char *headers[] = { header, "Content-Type: application/json", NULL };
	const struct http_request request = { .method = "POST",
					      .url = url,
					      .headers = headers,
					      .body = body,
					      .ca_file = settings_text(s->ca_file),
					      .proxy = s->proxy };
	rc = http_call_blocking(&request, out, e);
	secret_wipe(header, sizeof header);
	if (rc)
		return rc;
	if (out->status == 201 && out->json)
		return 0;
	/* What stands in front of a server refuses without a code of ours, and knows nothing of the token. */
	bool final = *out->code && out->status >= 400 && out->status < 500 && out->status != 408 && out->status != 429;
	rc = err_set(e, final ? ERR_DENIED : ERR_UNAVAILABLE, "%s refused the enrolment (%d%s%s): %s", server,
		     out->status, *out->code ? " " : "", out->code, out->detail);
	http_response_free(out);
	return rc;
}

static char *request_body(EVP_PKEY *identity, EVP_PKEY *link, struct err *e)
{
	char identity_text[KEY_TEXT_MAX], link_text[KEY_TEXT_MAX];
	if (key_public_text(identity, identity_text, e) || key_public_text(link, link_text, e))
		return NULL;
	json_auto_t *json = json_pack("{s:s, s:s, s:s}", "identity_key", identity_text, "link_key", link_text,
				      "version", TUNNEL_VERSION);
	char *text = json ? json_text(json) : NULL;
	if (!text)
		err_set(e, ERR_NOMEM, "out of memory");
	return text;
}

static bool is_same(const char *a, const char *b)
{
	struct url x, y;
	struct err e;
	return url_parse(a, &x, &e) == 0 && url_parse(b, &y, &e) == 0 && strcasecmp(x.host, y.host) == 0 &&
	       x.port == y.port && strcmp(x.path, y.path) == 0;
}

/* Only those of the settings are dialled by the agent, if there are any. */
static void warn_of_another_server(const struct settings *settings, const char *server)
{
	for (size_t i = 0; i < settings->servers.n; i++)
		if (is_same(settings->servers.at[i], server))
			return;
	if (settings->servers.n)
		fprintf(stderr,
			"tunnel-agent: enrolled at %s, but the settings have server = \"%s\"%s: that is where the "
			"agent will "
			"connect, and a server of another control plane does not know it\n",
			server, settings->servers.at[0], settings->servers.n > 1 ? " and others" : "");
}

int enroll_run(const struct settings *settings, const char *server, const char *token, struct err *e)
{
	struct url url;
	EVP_PKEY *identity = NULL, *link = NULL;
	struct http_response response = { 0 };
	char *body = NULL;
	int lock = -1, rc;
	if (!server && settings->servers.n)
		server = settings->servers.at[0];
	if (!server)
		return err_set(e, ERR_INVALID, "no server: give --server URL, or server in the config file");
	if ((rc = url_parse_secure(server, &url, e)))
		return err_wrap(e, "server");
	if ((rc = state_lock(settings->state_dir, &lock, e)))
		return rc;
	if ((rc = state_prepare_keys(settings->state_dir, &identity, &link, e)))
		goto out;
	body = request_body(identity, link, e);
	rc = body ? post(settings, server, token, body, &response, e) : ERR_NOMEM;
	if (rc == ERR_DENIED)
		state_forget_new_keys(settings->state_dir); /* another token starts afresh */
	if (rc)
		goto out;
	const char *id = json_string_value(json_object_get(response.json, "id"));
	if (!id || !text_is_id(id))
		rc = err_set(e, ERR_PROTOCOL, "%s: its answer names no target", server);
	else
		rc = state_commit(settings->state_dir, id, server, e);
	if (!rc) {
		printf("enrolled as %s\n", id);
		warn_of_another_server(settings, server);
	}
	http_response_free(&response);
out:
	free(body);
	EVP_PKEY_free(identity);
	EVP_PKEY_free(link);
	close(lock);
	return rc;
}
