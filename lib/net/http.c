/* One REST call, one curl handle: calls are rare, and a handle that is kept would keep a connection to a server that
 * may be gone. Redirects are not followed: a credential goes where it was sent and nowhere else. */
#include "net/http.h"

#include "base/json.h"
#include "base/limits.h"
#include "base/secret.h"
#include "net/curl.h"
#include "net/proxy.h"
#include "net/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DEFAULT_TIMEOUT_MS 15000
#define CONNECT_TIMEOUT_MS 10000L
#define NONCE_SIZE 43 /* "X-Tunnel-Nonce: ", 26 letters and digits (more than 128 bits), NUL */

static size_t on_body(char *data, size_t one, size_t len, void *user)
{
	(void)one;
	return buf_add(user, data, len) == 0 ? len : 0;
}

/* A signature's time counts seconds, and the server takes one signature once for what changes something: of two equal
 * calls within a second the later would be refused. libcurl signs this header with the others. */
static void make_nonce(char out[NONCE_SIZE])
{
	size_t n = strlen(strcpy(out, "X-Tunnel-Nonce: "));
	secret_random_id(out + n, NONCE_SIZE - n - 1);
}

static int build_headers(const struct http_request *r, struct curl_slist **out, struct err *e)
{
	/* No "Expect:" to suppress that header: SigV4 of libcurl would sign it, and not send it. */
	char nonce[NONCE_SIZE], type[128];
	const char *own[] = { "Accept: application/json", r->body ? type : NULL, r->sigv4 ? nonce : NULL };
	struct curl_slist *list = NULL;
	bool ok = true;
	make_nonce(nonce);
	snprintf(type, sizeof type, "Content-Type: %s", r->content_type ? r->content_type : "application/json");
	for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
		if (own[i]) {
			struct curl_slist *more = libcurl.slist_append(list, own[i]);
			ok = ok && more;
			list = more ? more : list;
		}
	for (const char *const *h = r->headers; h && *h; h++) {
		if (strpbrk(*h, "\r\n")) {
			libcurl.slist_free_all(list);
			return err_set(e, ERR_INVALID, "header \"%.*s\": a line break in it", (int)strcspn(*h, ":\r\n"),
				       *h);
		}
		struct curl_slist *more = libcurl.slist_append(list, *h);
		ok = ok && more;
		list = more ? more : list;
	}
	*out = list;
	return ok ? 0 : err_set(e, ERR_NOMEM, "out of memory");
}

static void set_protocols(CURL *curl)
{
#if LIBCURL_VERSION_NUM >= 0x075500
	libcurl.easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https,http");
#else
	libcurl.easy_setopt(curl, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTPS | CURLPROTO_HTTP));
#endif
}

static void configure(CURL *curl, const struct http_request *r, struct curl_slist *headers, struct buf *body,
		      char error[CURL_ERROR_SIZE])
{
	libcurl.easy_setopt(curl, CURLOPT_URL, r->url);
	libcurl.easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	libcurl.easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
	libcurl.easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	libcurl.easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
	libcurl.easy_setopt(curl, CURLOPT_WRITEDATA, body);
	libcurl.easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(r->timeout_ms ? r->timeout_ms : DEFAULT_TIMEOUT_MS));
	libcurl.easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
	libcurl.easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	libcurl.easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	set_protocols(curl);
	if (r->body) {
		libcurl.easy_setopt(curl, CURLOPT_POSTFIELDS, r->body);
		libcurl.easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(r->body));
	} else if (strcmp(r->method, "POST") == 0 || strcmp(r->method, "PUT") == 0) {
		libcurl.easy_setopt(curl, CURLOPT_POSTFIELDS, ""); /* Content-Length: 0, which servers ask for */
	} else if (strcmp(r->method, "HEAD") == 0) {
		libcurl.easy_setopt(curl, CURLOPT_NOBODY, 1L);
	}
	libcurl.easy_setopt(curl, CURLOPT_CUSTOMREQUEST, r->method);
	if (r->ca_file) {
		libcurl.easy_setopt(curl, CURLOPT_CAINFO, r->ca_file);
		libcurl.easy_setopt(curl, CURLOPT_CAPATH,
				    NULL); /* where the system's are: libcurl would look there, too */
	}
	if (r->proxy)
		libcurl.easy_setopt(curl, CURLOPT_PROXY, r->proxy);
	if (r->sigv4) {
		libcurl.easy_setopt(curl, CURLOPT_AWS_SIGV4, r->sigv4);
		libcurl.easy_setopt(curl, CURLOPT_USERPWD, r->userpwd);
	}
}

static int error_code(CURLcode rc)
{
	switch (rc) {
	case CURLE_OPERATION_TIMEDOUT:
		return ERR_TIMEOUT;
	case CURLE_WRITE_ERROR:
		return ERR_LIMIT;
	case CURLE_OUT_OF_MEMORY:
		return ERR_NOMEM;
	case CURLE_PEER_FAILED_VERIFICATION:
		return ERR_DENIED;
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_SSL_CACERT_BADFILE:
		return ERR_INVALID;
	default:
		return ERR_UNAVAILABLE;
	}
}

static bool is_json(const char *content_type)
{
	if (!content_type)
		return false;
	size_t len = strcspn(content_type, "; \t");
	return (len >= 5 && strncasecmp(content_type + len - 5, "/json", 5) == 0) ||
	       (len >= 5 && strncasecmp(content_type + len - 5, "+json", 5) == 0);
}

static bool is_problem(const char *content_type)
{
	static const char type[] = "application/problem+json";
	return content_type && strncasecmp(content_type, type, sizeof type - 1) == 0 &&
	       strcspn(content_type, "; \t") == sizeof type - 1;
}

static void read_problem(const json_t *problem, struct http_response *out)
{
	const char *code = json_string_value(json_object_get(problem, "code"));
	const char *detail = json_string_value(json_object_get(problem, "detail"));
	const char *title = json_string_value(json_object_get(problem, "title"));
	const char *id = json_string_value(json_object_get(problem, "request_id"));
	snprintf(out->code, sizeof out->code, "%s", code ? code : "");
	snprintf(out->request_id, sizeof out->request_id, "%s", id ? id : "");
	if (detail || title)
		snprintf(out->detail, sizeof out->detail, "%s", detail ? detail : title);
	else if (out->status >= 300)
		snprintf(out->detail, sizeof out->detail, "HTTP status %d%s", out->status,
			 out->status < 400 ? " (redirects are not followed)" : "");
}

static int read_response(CURL *curl, struct buf *body, struct http_response *out, struct err *e)
{
	long status = 0;
	const char *type = NULL;
	curl_off_t retry_after = 0;
	libcurl.easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	libcurl.easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
	libcurl.easy_getinfo(curl, CURLINFO_RETRY_AFTER, &retry_after);
	out->status = (int)status;
	out->retry_after_ms = retry_after > 0 && retry_after < 86400 ? (int64_t)retry_after * 1000 : 0;
	out->body_len = body->len;
	out->body = buf_take_text(body);
	if (!out->body)
		return err_set(e, ERR_NOMEM, "out of memory");
	if (is_json(type) && out->body_len && json_parse(out->body, out->body_len, &out->json, NULL) != 0)
		out->json = NULL;
	read_problem(is_problem(type) ? out->json : NULL, out);
	return 0;
}

/* No answer came. words: curl's, or "". */
static int refuse(const struct http_request *r, const struct url *url, CURLcode why, const char *words, struct err *e)
{
	int rc = err_set(e, error_code(why), "%s:%u: %s", url->host, url->port,
			 *words ? words : libcurl.easy_strerror(why));
	size_t n = e ? strlen(e->text) : 0;
	if (e && why == CURLE_PEER_FAILED_VERIFICATION)
		snprintf(e->text + n, sizeof e->text - n, " (%s names the CAs to trust)",
			 r->ca_setting ? r->ca_setting : "ca_file");
	return rc;
}

static int perform(CURL *curl, const struct http_request *r, const struct url *url, struct http_response *out,
		   struct err *e)
{
	char words[CURL_ERROR_SIZE] = "";
	struct curl_slist *headers = NULL;
	size_t max = r->max_response ? r->max_response : LIMIT_HTTP_RESPONSE;
	struct buf body = BUF_INIT(max);
	int rc = build_headers(r, &headers, e);
	if (rc == 0) {
		configure(curl, r, headers, &body, words);
		CURLcode done = libcurl.easy_perform(curl);
		if (done == CURLE_WRITE_ERROR)
			rc = err_set(e, ERR_LIMIT, "%s %s: the answer is longer than %zu bytes", r->method, url->host,
				     max);
		else if (done != CURLE_OK)
			rc = refuse(r, url, done, words, e);
		else
			rc = read_response(curl, &body, out, e);
	}
	buf_wipe_free(&body);
	libcurl.slist_free_all(headers);
	return rc;
}

int http_call_blocking(const struct http_request *request, struct http_response *out, struct err *e)
{
	struct url url;
	struct proxy proxy = { 0 };
	struct http_response response = { 0 };
	int rc = url_parse(request->url, &url, e);
	if (rc == 0 && request->proxy && *request->proxy)
		rc = proxy_parse(request->proxy, &proxy, e);
	proxy_free(&proxy);
	if (rc != 0)
		return rc;
	rc = curl_load(e);
	if (rc != 0)
		return rc;
	CURL *curl = libcurl.easy_init();
	if (!curl)
		return err_set(e, ERR_NOMEM, "out of memory");
	rc = perform(curl, request, &url, &response, e);
	libcurl.easy_cleanup(curl);
	if (rc == 0)
		*out = response;
	else
		http_response_free(&response);
	return rc;
}

void http_response_free(struct http_response *r)
{
	if (!r)
		return;
	secret_free_text(&r->body);
	json_decref(r->json);
	memset(r, 0, sizeof *r);
}
