#include "fetch.h"

#include "key.h"
#include "text.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CONNECT_MS 5000L
#define WHOLE_MS 10000L

struct body {
	char *bytes;
	size_t len;
	int too_long;
};

int fetch_url_is_fit(const char *url)
{
	size_t len = strlen(url);
	if (strncasecmp(url, "https://", 8) != 0 || len == 8 || len > FETCH_URL_MAX)
		return 0;
	for (const char *c = url; *c; c++)
		if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f || *c == '#')
			return 0;
	return 1;
}

static size_t on_body(char *data, size_t one, size_t len, void *user)
{
	struct body *b = user;
	(void)one;
	if (b->len + len > KEY_FILE_MAX) {
		b->too_long = 1;
		return 0;
	}
	char *more = realloc(b->bytes, b->len + len + 1);
	if (!more)
		return 0;
	memcpy(more + b->len, data, len);
	b->bytes = more;
	b->len += len;
	b->bytes[b->len] = '\0';
	return len;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	(void)a, (void)b, (void)c, (void)d;
	return atomic_load((atomic_bool *)user) ? 1 : 0;
}

static void configure(CURL *curl, const char *url, const char *ca_file, atomic_bool *stop, struct body *body,
		      char words[CURL_ERROR_SIZE])
{
#if LIBCURL_VERSION_NUM >= 0x075500
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
#else
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS, (long)CURLPROTO_HTTPS);
#endif
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, WHOLE_MS);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, words);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
	curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(curl, CURLOPT_XFERINFODATA, stop);
	if (ca_file) {
		curl_easy_setopt(curl, CURLOPT_CAINFO, ca_file);
		curl_easy_setopt(curl, CURLOPT_CAPATH,
				 NULL); /* where the system's are: libcurl would look there, too */
	}
}

int fetch_blocking(const char *url, const char *ca_file, atomic_bool *stop, char **out, size_t *out_len, char *err,
		   size_t err_len)
{
	struct body body = { 0 };
	char words[CURL_ERROR_SIZE] = "";
	long status = 0;
	int rc = -1;
	CURL *curl = curl_easy_init();
	if (!curl)
		return say(-1, err, err_len, "%s: out of memory", url);
	configure(curl, url, ca_file, stop, &body, words);
	CURLcode done = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	if (body.too_long)
		say(0, err, err_len, "%s: longer than %u bytes", url, KEY_FILE_MAX);
	else if (done != CURLE_OK)
		say(0, err, err_len, "%s: %s", url, words[0] ? words : curl_easy_strerror(done));
	else if (status != 200)
		say(0, err, err_len, "%s: HTTP status %ld", url, status);
	else if (!body.bytes)
		say(0, err, err_len, "%s: an empty answer", url);
	else
		rc = 0;
	curl_easy_cleanup(curl);
	if (rc != 0) {
		free(body.bytes);
		return -1;
	}
	*out = body.bytes;
	*out_len = body.len;
	return 0;
}
