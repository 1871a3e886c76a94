/* auth-hmac against the curl that is installed, and our own calls through its library: a small listener hands what curl
 * really sends to the plugin. */
#include "hmac_case.h"

#include "net/http.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define REQUEST_MAX 65536
#define CURL_BAD_ARGUMENT 43

struct listener {
	struct fixture f;
	int fd;
	unsigned port;
	pthread_t thread;
};

/* Reads head and body; returns the head's length, with its lines split by NUL. 0: the connection ended. */
static size_t read_request(int fd, char *text, size_t *out_len)
{
	size_t len = 0, head = 0, body = 0;
	while (!head || len < head + body) {
		ssize_t n = recv(fd, text + len, REQUEST_MAX - 1 - len, 0);
		if (n <= 0)
			return 0;
		len += (size_t)n;
		text[len] = '\0';
		char *end = head ? NULL : strstr(text, "\r\n\r\n");
		if (end) {
			head = (size_t)(end - text) + 4;
			char *length = strcasestr(text, "\r\ncontent-length:");
			body = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
		}
	}
	*out_len = len;
	return head;
}

static char *trimmed(char *value)
{
	while (*value == ' ')
		value++;
	size_t n = strlen(value);
	while (n && value[n - 1] == ' ')
		value[--n] = '\0';
	return value;
}

/* The head's lines as the server's HTTP layer would hand them over. */
static int judge(struct listener *l, char *text, size_t head, size_t len)
{
	struct tunnel_header headers[32];
	struct tunnel_identity id;
	unsigned char hash[32];
	char *save = NULL, *line = strtok_r(text, "\r\n", &save);
	char *method = strsep(&line, " "), *path = strsep(&line, " "), *query = path;
	struct tunnel_auth_request r = { .size = sizeof r, .method = method, .headers = headers };
	r.path = strsep(&query, "?");
	r.query = query ? query : "";
	while ((line = strtok_r(NULL, "\r\n", &save)) && line < text + head) {
		char *value = line, *name = strsep(&value, ":");
		for (char *p = name; *p; p++)
			*p = (char)(*p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p);
		headers[r.header_count++] = (struct tunnel_header){ name, trimmed(value) };
	}
	EVP_Digest(text + head, len - head, hash, NULL, EVP_sha256(), NULL);
	r.body = (const unsigned char *)text + head;
	r.body_len = len - head;
	r.body_sha256 = hash;
	l->f.p.host.wall_ms = (int64_t)time(NULL) * 1000;
	return fake_verify(&l->f.p, &r, &id, NULL);
}

static void *serve(void *arg)
{
	struct listener *l = arg;
	static char text[REQUEST_MAX];
	for (int fd; (fd = accept(l->fd, NULL, NULL)) >= 0; close(fd)) {
		char answer[1024];
		size_t len = 0, head = read_request(fd, text, &len);
		if (!head)
			continue;
		int rc = judge(l, text, head, len);
		snprintf(answer, sizeof answer, "HTTP/1.1 %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
			 rc == 0 ? "200 OK" : "401 Unauthorized", strlen(l->f.p.err), l->f.p.err);
		send(fd, answer, strlen(answer), MSG_NOSIGNAL);
	}
	return NULL;
}

static void listener_begin(struct listener *l)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;
	begin(&l->f);
	const char *pairs[] = { "credentials", l->f.file, NULL }; /* region "default", service "tunnel" */
	assert_int_equal(fake_plugin_open(&l->f.p, pairs), 0);
	l->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(l->fd, (struct sockaddr *)&a, n), 0);
	assert_int_equal(listen(l->fd, 8), 0);
	assert_int_equal(getsockname(l->fd, (struct sockaddr *)&a, &n), 0);
	l->port = ntohs(a.sin_port);
	assert_int_equal(pthread_create(&l->thread, NULL, serve, l), 0);
}

static void listener_end(struct listener *l)
{
	shutdown(l->fd, SHUT_RDWR);
	pthread_join(l->thread, NULL);
	close(l->fd);
	end(&l->f);
}

/* Runs curl; out: the body and the status. Returns curl's exit code. */
static int run_curl(const struct listener *l, const char *scope, const char *secret, const char *options,
		    const char *target, char out[1024])
{
	char command[1024];
	snprintf(command, sizeof command,
		 "curl -q -s --noproxy '*' -m 20 -w ' [%%{http_code}]' --aws-sigv4 'aws:amz:%s' --user '" EXAMPLE_ID
		 ":%s' %s 'http://127.0.0.1:%u%s'",
		 scope, secret, options, l->port, target);
	FILE *pipe = popen(command, "re");
	assert_non_null(pipe);
	size_t n = fread(out, 1, 1023, pipe);
	out[n] = '\0';
	int status = pclose(pipe);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_requests_of_curl_verify(void **state)
{
	(void)state;
	static const struct {
		const char *options, *target;
	} cases[] = {
		{ "", "/v1/whoami" },
		{ "", "/" },
		{ "", "/v1/targets?tag.role=db&limit=5" },
		{ "", "/v1/targets?tag.role=a%20b&cursor=x%2Fy%3D&limit=5&A=1" },
		{ "", "/v1/targets?limit=5&flag&empty=" },
		{ "", "/v1/policies/a%20b" },
		{ "", "/v1/policies/a~b_c-d.e" },
		{ "", "/v1//policies/../x/./y" },
		{ "--path-as-is", "/v1//policies/../x/./y" },
		{ "-X POST -H 'Content-Type: application/json' -d '{\"principal\":\"alice\"}'",
		  "/v1/policies:simulate" },
		{ "-d '{\"a\":1}'", "/v1/sessions" },
		{ "-H 'Content-Type: application/json' -H 'X-Reason:  two   words ' -d '{\"a\":1}'", "/v1/sessions" },
		{ "-X PUT -d 'x'", "/v1/policies/p" },
		{ "-X DELETE", "/v1/sessions/s-1" },
		{ "-X DELETE -H 'X-A: 1' -H 'X-Z: 2'", "/v1/sessions/s-1" },
		{ "-H 'Host: server.example:8443'", "/v1/whoami" },
	};
	struct listener l;
	char out[1024];
	listener_begin(&l);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		int code = run_curl(&l, "default:tunnel", EXAMPLE_SECRET, cases[i].options, cases[i].target, out);
		/* curl from some 8.x on sends nothing then: "Cannot use sigv4 authentication with path-as-is flag". */
		if (code == CURL_BAD_ARGUMENT && strcmp(cases[i].options, "--path-as-is") == 0)
			continue;
		if (strcmp(out, " [200]") != 0)
			fail_msg("curl %s %s: %s", cases[i].options, cases[i].target, out);
	}
	listener_end(&l);
}

static void test_curl_is_told_what_is_wrong(void **state)
{
	(void)state;
	struct listener l;
	char out[1024];
	listener_begin(&l);
	run_curl(&l, "default:tunnel", "another-secret-of-this-length", "", "/v1/whoami", out);
	assert_string_equal(out, CHANGED " [401]");
	run_curl(&l, "us-east-1:tunnel", EXAMPLE_SECRET, "", "/v1/whoami", out);
	assert_non_null(strstr(out, "/us-east-1/tunnel/aws4_request\"; expected \""));
	assert_non_null(strstr(out, "[401]"));
	run_curl(&l, "default:tunnel", EXAMPLE_SECRET, "-d x -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD'", "/v1/whoami",
		 out);
	assert_non_null(strstr(out, "the body must be signed"));
	listener_end(&l);
}

/* Four in a row, of which some are of the same second. */
static void test_our_own_equal_calls_are_all_taken(void **state)
{
	(void)state;
	struct listener l;
	char url[64];
	listener_begin(&l);
	snprintf(url, sizeof url, "http://127.0.0.1:%u/v1/sessions", l.port);
	const struct http_request q = { .method = "POST",
					.url = url,
					.body = "{\"target\":\"web-1\"}",
					.proxy = "",
					.sigv4 = "aws:amz:default:tunnel",
					.userpwd = EXAMPLE_ID ":" EXAMPLE_SECRET };
	for (int i = 0; i < 4; i++) {
		struct http_response r;
		struct err e = { 0 };
		if (http_call_blocking(&q, &r, &e) != 0)
			fail_msg("%s", e.text);
		if (r.status != 200)
			fail_msg("call %d: HTTP %d: %s", i, r.status, r.body);
		http_response_free(&r);
	}
	listener_end(&l);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_of_curl_verify),
		cmocka_unit_test(test_curl_is_told_what_is_wrong),
		cmocka_unit_test(test_our_own_equal_calls_are_all_taken),
	};
	return RUN_CASES(tests);
}
