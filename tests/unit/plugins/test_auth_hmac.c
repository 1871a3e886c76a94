/* auth-hmac as the server uses it: the built plugin, loaded. */
#include "hmac_case.h"

#include "base/file.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct call vanilla = { "GET", "/", "", "",
				     PLAIN("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31") };

static void test_what_was_signed_cannot_be_changed(void **state)
{
	(void)state;
	struct fixture f;
	char value[512];
	begin_open(&f);
	authorize(value, EXAMPLE_ID, EXAMPLE_SCOPE, "host;x-amz-date;x-reason",
		  "POST\n/v1/sessions\na=1&b=2\nhost:example.amazonaws.com\nx-amz-date:" EXAMPLE_DATE
		  "\nx-reason:why\n\n"
		  "host;x-amz-date;x-reason\n" FORM);
	const struct call good = {
		"POST",
		"/v1/sessions",
		"b=2&a=1",
		"Param1=value1",
		{ HOST, DATE, { "x-reason", "why" }, { "x-other", "1" }, { "authorization", value } }
	};
	struct call c = good;
	assert_call(&f, &c, NULL, "as signed");
	c.headers[3].value = "2";
	assert_call(&f, &c, USED, "an unsigned header: right, but no other request");
	c = good, c.method = "PUT";
	assert_call(&f, &c, CHANGED, "method");
	c = good, c.path = "/v1/session";
	assert_call(&f, &c, CHANGED, "path");
	c = good, c.path = "/v1/Sessions";
	assert_call(&f, &c, CHANGED, "case of the path");
	c = good, c.query = "b=2&a=2";
	assert_call(&f, &c, CHANGED, "query");
	c = good, c.query = "b=2&a=1&a=1";
	assert_call(&f, &c, CHANGED, "query, longer");
	c = good, c.query = "";
	assert_call(&f, &c, CHANGED, "no query");
	c = good, c.query = "b=2&a=%zz";
	assert_call(&f, &c, "percent sign without two hex digits", "broken query");
	c = good, c.query = "b=2&a=%00";
	assert_call(&f, &c, "percent sign", "NUL in the query");
	c = good, c.body = "Param1=value2";
	assert_call(&f, &c, CHANGED, "body");
	c = good, c.headers[2].value = "other";
	assert_call(&f, &c, CHANGED, "signed header");
	c = good, c.headers[3] = (struct tunnel_header){ "x-reason", "more" };
	assert_call(&f, &c, CHANGED, "signed header twice");
	c = good, c.headers[2].name = "x-renamed";
	assert_call(&f, &c, "the signed header \"x-reason\" is not in the request", "header gone");
	c = good, c.headers[1].value = "20150830T123601Z";
	assert_call(&f, &c, CHANGED, "time");
	c = good, c.headers[3] = (struct tunnel_header){ "x-amz-date", EXAMPLE_DATE };
	assert_call(&f, &c, "expected one x-amz-date or date header, found 2", "time twice");
	c = good, c.headers[3] = (struct tunnel_header){ "x-amz-content-sha256", "UNSIGNED-PAYLOAD" };
	assert_call(&f, &c, "the body must be signed", "unsigned payload");
	c.headers[3].value = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
	assert_call(&f, &c, "the body must be signed", "streamed payload");
	c.headers[3].value = EMPTY;
	assert_call(&f, &c, "is not the SHA-256 of the body", "another body's hash");
	c.headers[3].value = FORM;
	assert_call(&f, &c, USED, "the body's hash, unsigned but right");
	c = good, c.headers[3] = (struct tunnel_header){ "authorization", "Bearer a.b.c" };
	assert_call(&f, &c, "more than one Authorization header", "two credentials");
	c = good, c.query = "b=2&a=1&X-Amz-Signature=1";
	assert_call(&f, &c, "signed twice", "both forms");
	end(&f);
}

/* "As sent" is not read where it could be the encoding of another path. */
static void test_an_encoded_path_stands_for_itself(void **state)
{
	(void)state;
	struct fixture f;
	char value[512];
	begin_open(&f);
	authorize(value, EXAMPLE_ID, EXAMPLE_SCOPE, "host;x-amz-date",
		  "GET\n/a%2520b\n\nhost:example.amazonaws.com\nx-amz-date:" EXAMPLE_DATE
		  "\n\nhost;x-amz-date\n" EMPTY);
	struct call c = { "GET", "/a%20b", "", "", { HOST, DATE, { "authorization", value } } };
	assert_call(&f, &c, NULL, "encoded as AWS does");
	c.path = "/a%2520b";
	assert_call(&f, &c, CHANGED, "another resource");
	authorize(value, EXAMPLE_ID, EXAMPLE_SCOPE, "host;x-amz-date",
		  "GET\n/a%20b:c\n\nhost:example.amazonaws.com\nx-amz-date:" EXAMPLE_DATE
		  "\n\nhost;x-amz-date\n" EMPTY);
	c.path = "/a%20b:c";
	assert_call(&f, &c, NULL, "as sent");
	end(&f);
}

static void test_scope_time_and_form_are_judged(void **state)
{
	(void)state;
	static const struct {
		const char *authorization, *why;
	} cases[] = {
#define SIG "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
#define START "AWS4-HMAC-SHA256 Credential="
#define REST ", SignedHeaders=host;x-amz-date, Signature=" SIG
		{ START SCOPE REST, NULL },
		{ START SCOPE ",SignedHeaders=host;x-amz-date,Signature=" SIG, NULL },
		{ START "AKIDEXAMPLE/20150830/us-west-1/service/aws4_request" REST,
		  "signed for the scope \"20150830/us-west-1/service/aws4_request\"; expected \"" EXAMPLE_SCOPE "\"" },
		{ START "AKIDEXAMPLE/20150830/us-east-1/s3/aws4_request" REST, "signed for the scope" },
		{ START "AKIDEXAMPLE/20150829/us-east-1/service/aws4_request" REST, "signed for the scope" },
		{ START "AKIDEXAMPLE/20150830/us-east-1/service/aws5_request" REST, "signed for the scope" },
		{ START "AKIDEXAMPLE/us-east-1/service/aws4_request" REST, "Credential: expected" },
		{ START "/20150830/us-east-1/service/aws4_request" REST, "Credential: expected" },
		{ START "AK ID/20150830/us-east-1/service/aws4_request" REST, "Credential: expected" },
		{ START "NOBODY/20150830/us-east-1/service/aws4_request" REST, CHANGED },
		{ START "BOB/20150830/us-east-1/service/aws4_request" REST, CHANGED },
		{ START SCOPE ", SignedHeaders=host, Signature=" SIG, "the header x-amz-date must be signed" },
		{ START SCOPE ", SignedHeaders=x-amz-date, Signature=" SIG, "the header host must be signed" },
		{ START SCOPE ", SignedHeaders=x-amz-date;host, Signature=" SIG, "SignedHeaders: expected" },
		{ START SCOPE ", SignedHeaders=host;host;x-amz-date, Signature=" SIG, "SignedHeaders: expected" },
		{ START SCOPE ", SignedHeaders=Host;x-amz-date, Signature=" SIG, "SignedHeaders: expected" },
		{ START SCOPE ", SignedHeaders=host;x-amz-date;, Signature=" SIG, "SignedHeaders: expected" },
		{ START SCOPE ", SignedHeaders=, Signature=" SIG, "SignedHeaders: expected" },
		{ START SCOPE ", SignedHeaders=host;x-amz-date, Signature=5fa0", "Signature: expected 64 hex digits" },
		{ START SCOPE ", SignedHeaders=host;x-amz-date, "
			      "Signature=5FA00FA31553B73EBF1942676E86291E8372FF2A2260956D9B8AAE1D763FBF31",
		  "Signature: expected 64 hex digits" },
		{ START SCOPE ", SignedHeaders=host;x-amz-date", "each once" },
		{ START SCOPE REST ", Signature=" SIG, "each once" },
		{ START SCOPE REST ", X=1", "each once" },
		{ "AWS4-HMAC-SHA256", "of the AWS4 schemes" },
		{ "AWS4-HMAC-SHA256 ", "each once" },
		{ "AWS4-ECDSA-P256-SHA256 Credential=" SCOPE REST, "of the AWS4 schemes, AWS4-HMAC-SHA256 is allowed" },
	};
	struct fixture f;
	begin_open(&f);
	struct call c = { "GET", "/", "", "", { HOST, DATE, { "authorization", "" } } };
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		c.headers[2].value = cases[i].authorization;
		assert_call(&f, &c, cases[i].why, cases[i].authorization);
	}
	c = vanilla;
	f.p.host.wall_ms = EXAMPLE_MS + 300000;
	assert_call(&f, &c, NULL, "at the edge");
	f.p.host.wall_ms = EXAMPLE_MS + 300001;
	assert_call(&f, &c, "signed 300 s ago; allowed: 300 s", "too old");
	f.p.host.wall_ms = EXAMPLE_MS - 300000;
	assert_call(&f, &c, NULL, "at the other edge");
	f.p.host.wall_ms = EXAMPLE_MS - 301000;
	assert_call(&f, &c, "signed 301 s in the future; allowed: 300 s", "too early");
	f.p.host.wall_ms = EXAMPLE_MS;
	static const char *const times[] = { "20150830123600Z",
					     "20150830T123600",
					     "20150231T123600Z",
					     "2015083aT123600Z",
					     "20150830T246000Z",
					     "",
					     "Sun, 30 Aug 2015 12:36:00 GMT" };
	for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
		c.headers[1].value = times[i];
		assert_call(&f, &c, "x-amz-date: expected a time like 20150830T123600Z", times[i]);
	}
	end(&f);
}

static void test_a_date_header_will_do(void **state)
{
	(void)state;
	struct fixture f;
	char value[512];
	begin_open(&f);
	authorize(value, EXAMPLE_ID, EXAMPLE_SCOPE, "date;host",
		  "GET\n/\n\ndate:Sun, 30 Aug 2015 12:36:00 GMT\nhost:example.amazonaws.com\n\ndate;host\n" EMPTY);
	struct call c = {
		"GET", "/", "", "", { HOST, { "date", "Sun, 30 Aug 2015 12:36:00 GMT" }, { "authorization", value } }
	};
	assert_call(&f, &c, NULL, "HTTP date");
	c.headers[1].value = "Sun, 30 Foo 2015 12:36:00 GMT";
	assert_call(&f, &c, "date: expected a time", "no month");
	end(&f);
}

static void test_other_credentials_are_not_mine(void **state)
{
	(void)state;
	struct fixture f;
	struct tunnel_identity id;
	begin_open(&f);
	struct call c = { "GET", "/", "a=1", "", { HOST } };
	assert_int_equal(send_call(&f, &c, &id, NULL), TUNNEL_NOT_MINE);
	static const char *const values[] = { "Bearer a.b.c", "Basic YTpi", "", "AWS AKID:sig" };
	for (size_t i = 0; i < 4; i++) {
		c.headers[1] = (struct tunnel_header){ "authorization", values[i] };
		assert_int_equal(send_call(&f, &c, &id, NULL), TUNNEL_NOT_MINE);
	}
	end(&f);
}

static int claim(struct fixture *f, const struct call *c, char out[TUNNEL_CREDENTIAL_MAX])
{
	const struct tunnel_auth_ops *ops = f->p.desc->ops;
	const struct tunnel_call call = { .size = sizeof call };
	struct tunnel_auth_request r = {
		.size = sizeof r, .method = c->method, .path = c->path, .query = c->query, .headers = c->headers
	};
	while (c->headers[r.header_count].name)
		r.header_count++;
	return ops->claim(f->p.instance, &call, &r, out, TUNNEL_CREDENTIAL_MAX);
}

/* Who is guessed at is known before anything is compared, and whether or not there is such a key. */
static void test_the_key_id_is_claimed(void **state)
{
	(void)state;
	struct fixture f;
	char id[TUNNEL_CREDENTIAL_MAX] = "";
	begin_open(&f);
	struct call c = { "GET", "/", "", "", PLAIN(EMPTY) };
	assert_int_equal(claim(&f, &c, id), TUNNEL_OK);
	assert_string_equal(id, EXAMPLE_ID);
	struct call other = {
		"GET",
		"/",
		"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=NOBODY%2F20150830%2Fus-east-1%2Fservice%2Faws4_"
		"request"
		"&X-Amz-Date=20150830T123600Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=" EMPTY,
		"",
		{ HOST }
	};
	assert_int_equal(claim(&f, &other, id), TUNNEL_OK);
	assert_string_equal(id, "NOBODY");
	struct call none = { "GET", "/", "", "", { HOST, { "authorization", "Bearer a.b.c" } } };
	assert_int_equal(claim(&f, &none, id), TUNNEL_NOT_MINE);
	struct call half = {
		"GET", "/", "", "", { HOST, { "authorization", "AWS4-HMAC-SHA256 Credential=" EXAMPLE_ID } }
	};
	assert_int_equal(claim(&f, &half, id), TUNNEL_NOT_MINE);
	/* What is refused before it is compared is no guess at that key: others who have it work on. */
	f.p.host.wall_ms += 3600 * 1000;
	assert_int_equal(claim(&f, &c, id), TUNNEL_NOT_MINE);
	assert_int_equal(claim(&f, &other, id), TUNNEL_NOT_MINE);
	end(&f);
}

static void test_credentials_files_are_checked(void **state)
{
	(void)state;
#define ENTRY "key_id = \"A\"; secret = \"0123456789abcdef\"; subject = \"a\";"
	static const struct {
		const char *text, *why;
	} cases[] = {
		{ "credentials = ( { " ENTRY " } );", NULL },
		{ "credentials = ();", NULL },
		{ "credentials = (\n { " ENTRY " },\n { " ENTRY " } );", "key_id A is there twice" },
		{ "credentials = ( {\n " ENTRY "\n admin = true; } );", "credentials:3: admin: unknown setting" },
		{ "credentials = (\n { secret = \"0123456789abcdef\"; subject = \"a\"; } );",
		  "credentials:2: key_id: expected" },
		{ "credentials = ( { key_id = \"A/B\"; secret = \"0123456789abcdef\"; subject = \"a\"; } );",
		  "key_id: expected" },
		{ "credentials = ( { key_id = \"A\"; secret = \"short\"; subject = \"a\"; } );",
		  "secret of A: expected a text of 16 to 256 characters" },
		{ "credentials = ( { key_id = \"A\"; secret = \"0123456789abcdef\"; } );", "subject of A: expected" },
		{ "credentials = ( { key_id = \"A\"; secret = \"0123456789abcdef\"; subject = \"\\xff\"; } );",
		  "subject of A" },
		{ "credentials = ( { " ENTRY " groups = \"a\"; } );", "groups: expected an array" },
		{ "credentials = ( { " ENTRY " groups = [\"a\\\"b\"]; } );", "groups: expected texts" },
		{ "credentials = ( { " ENTRY " groups = [1]; } );", "groups: expected texts" },
		{ "credentials = [ 1 ];", "expected credentials = (" },
		{ "credentials = ( 1 );", "expected { key_id" },
		{ "credentials = (); more = 1;", "and nothing else" },
		{ "", "expected credentials = (" },
		{ "credentials = ( {\n", "credentials:2: syntax error" },
		{ "@include \"/etc/passwd\"\n", "@include is not allowed" },
	};
	struct fixture f;
	begin(&f);
	const char *pairs[] = { "credentials", f.file, NULL };
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		write_credentials(&f, cases[i].text, 0600);
		int rc = fake_plugin_open(&f.p, pairs);
		fake_plugin_close(&f.p);
		if (rc != (cases[i].why ? TUNNEL_CONFIG : 0) || (cases[i].why && !strstr(f.p.err, cases[i].why)))
			fail_msg("case %zu: %d: %s", i, rc, f.p.err);
		assert_null(strstr(f.p.err, "0123456789abcdef"));
	}
	write_credentials(&f, EXAMPLE_FILE, 0640);
	assert_int_equal(fake_plugin_open(&f.p, pairs), TUNNEL_CONFIG);
	assert_non_null(strstr(f.p.err, "has mode 0640, others could read it; allowed: 0600"));
	assert_non_null(strstr(f.p.err, "test.conf:1: credentials: "));
	unlink(f.file);
	assert_int_equal(fake_plugin_open(&f.p, pairs), TUNNEL_CONFIG);
	assert_non_null(strstr(f.p.err, "No such file"));
	mkdir(f.file, 0700);
	assert_int_equal(fake_plugin_open(&f.p, pairs), TUNNEL_CONFIG);
	assert_non_null(strstr(f.p.err, "not a regular file"));
	const char *odd[] = { "credentials", f.file, "service", "a/b", NULL };
	assert_int_equal(fake_plugin_open(&f.p, odd), TUNNEL_CONFIG);
	end(&f);
}

/* Not as it is: whoever has read the sample would know the secrets. */
static void test_the_sample_file_loads_once_it_has_secrets(void **state)
{
	(void)state;
	struct fixture f;
	struct buf buf;
	struct err e = { 0 };
	unsigned placeholders = 0, line = 1;
	begin(&f);
	const char *pairs[] = { "credentials", f.file, NULL };
	assert_int_equal(file_read(SAMPLE_FILE, 65536, &buf, &e), 0);
	char *text = buf_take_text(&buf), *at = text, *next, where[64];
	for (; (next = strstr(at, "\"replace-this")) != NULL; placeholders++) {
		write_credentials(&f, text, 0600);
		assert_int_equal(fake_plugin_open(&f.p, pairs), TUNNEL_CONFIG);
		for (; at < next; at++)
			line += *at == '\n';
		snprintf(where, sizeof where, "credentials:%u: secret of AK", line);
		if (!strstr(f.p.err, where) || !strstr(f.p.err, "is still the sample's placeholder"))
			fail_msg("expected \"%s\": %s", where, f.p.err);
		memcpy(++at, "n0b0dy-knows", 12);
	}
	assert_int_equal(placeholders, 2);
	write_credentials(&f, text, 0600);
	if (fake_plugin_open(&f.p, pairs) != 0)
		fail_msg("%s", f.p.err);
	free(text);
	end(&f);
}

static void test_a_changed_file_is_read_again(void **state)
{
	(void)state;
	struct fixture f;
	begin_open(&f);
	const struct call *c = &vanilla;
	assert_call(&f, c, NULL, "at first");
	write_credentials(&f, "credentials = ();", 0600);
	assert_call(&f, c, NULL, "not looked at yet");
	f.p.host.mono_ms += 1000;
	assert_call(&f, c, CHANGED, "gone");
	write_credentials(&f, EXAMPLE_FILE, 0600);
	f.p.host.mono_ms += 1000;
	assert_call(&f, c, NULL, "back");

	fake_host_expect_errors(&f.p.host, 1); /* once, however often it is looked at */
	write_credentials(&f, "credentials = (", 0600);
	for (int i = 0; i < 3; i++) {
		f.p.host.mono_ms += 1000;
		assert_call(&f, c, NULL, "a broken file changes nothing");
	}
	assert_non_null(strstr(f.p.host.log, "the earlier ones stay: credentials:1: syntax error"));
	assert_int_equal(fake_plugin_reload(&f.p), TUNNEL_CONFIG);
	assert_non_null(strstr(f.p.err, "syntax error"));
	assert_call(&f, c, NULL, "nor does a failed reload");
	fake_host_expect_errors(&f.p.host, 2);
	unlink(f.file);
	f.p.host.mono_ms += 1000;
	assert_call(&f, c, NULL, "no file");
	write_credentials(&f, EXAMPLE_FILE, 0644);
	f.p.host.mono_ms += 1000;
	assert_call(&f, c, NULL, "wrong mode");
	write_credentials(&f, "credentials = ();", 0600);
	assert_int_equal(fake_plugin_reload(&f.p), 0);
	assert_call(&f, c, CHANGED, "reload does not wait");
	end(&f);
}

struct worker {
	struct fixture *f;
	atomic_bool *stop;
	unsigned wrong, calls;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct tunnel_identity id;
	char err[512];
	while (!*w->stop || w->calls < 20) {
		w->wrong += send_call(w->f, &vanilla, &id, err) != 0;
		w->calls++;
		w->f->p.host.mono_ms += 500; /* the file is looked at again and again */
	}
	return NULL;
}

static void test_threads_share_an_instance(void **state)
{
	(void)state;
	struct fixture f;
	pthread_t threads[4];
	struct worker workers[4];
	atomic_bool stop = false;
	struct tunnel_identity id;
	char err[512];
	begin_open(&f);
	/* OpenSSL 3.5 publishes the algorithms that it has looked up by atomics, which TSan does not see in there:
	 * first use is before the threads, as in a server. */
	assert_int_equal(send_call(&f, &vanilla, &id, err), 0);
	for (int i = 0; i < 4; i++) {
		workers[i] = (struct worker){ .f = &f, .stop = &stop };
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (int i = 0; i < 50; i++) {
		write_credentials(&f, EXAMPLE_FILE, 0600);
		assert_int_equal(fake_plugin_reload(&f.p), 0);
	}
	stop = true;
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(workers[i].wrong, 0);
	}
	end(&f);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_was_signed_cannot_be_changed),
		cmocka_unit_test(test_an_encoded_path_stands_for_itself),
		cmocka_unit_test(test_scope_time_and_form_are_judged),
		cmocka_unit_test(test_a_date_header_will_do),
		cmocka_unit_test(test_other_credentials_are_not_mine),
		cmocka_unit_test(test_the_key_id_is_claimed),
		cmocka_unit_test(test_credentials_files_are_checked),
		cmocka_unit_test(test_the_sample_file_loads_once_it_has_secrets),
		cmocka_unit_test(test_a_changed_file_is_read_again),
		cmocka_unit_test(test_threads_share_an_instance),
	};
	return RUN_CASES(tests);
}
