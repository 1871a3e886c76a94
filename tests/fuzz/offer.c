/* What the server tells an agent: offers with their grants, and what becomes of them on the way to a worker. The input
 * is one message, whose member "allow" stands for the agent's own list. */
#include "fuzz.h"

#include "agent/allow.h"
#include "agent/grant.h"
#include "agent/job.h"
#include "agent/name.h"
#include "base/json.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define ALLOW_MAX 32

static void check_grant(const json_t *json)
{
	static struct grant grant;
	struct err e;
	fuzz_fill(&grant, sizeof grant);
	int rc = grant_parse(json, &grant, &e);
	if (rc != 0) {
		FUZZ_CHECK(e.code == rc && e.text[0] && fuzz_is_untouched(&grant, sizeof grant));
		return;
	}
	FUZZ_CHECK(grant.max_streams <= LIMIT_LINK_STREAMS && grant.expires_at_ms >= 0);
	for (size_t i = 0; i < grant.login_count; i++)
		FUZZ_CHECK(text_is_login(grant.logins[i]));
	for (size_t i = 0; i < grant.tcp_count; i++) {
		const struct grant_endpoint *at = &grant.tcp[i];
		FUZZ_CHECK(at->port && grant_allows_tcp(&grant, at->host, at->port));
	}
	FUZZ_CHECK(!grant_allows_tcp(&grant, "nobody.asked.for.this", 1));
}

static bool allows_address(const struct allow *allow, const char *host, uint16_t port)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	if (inet_pton(AF_INET, host, &v4.sin_addr) == 1)
		return allow_address(allow, (const struct sockaddr *)&v4, port);
	FUZZ_CHECK(inet_pton(AF_INET6, host, &v6.sin6_addr) == 1);
	return allow_address(allow, (const struct sockaddr *)&v6, port);
}

/* An address is the same, asked as text or as bytes, as IPv4 or mapped into IPv6. */
static void check_allow(const json_t *list)
{
	static const char *const pairs[][2] = { { "10.1.2.3", "::ffff:10.1.2.3" }, { "127.0.0.1", "::ffff:7f00:1" } };
	char *entries[ALLOW_MAX];
	struct allow *allow = NULL;
	struct err e;
	size_t n = 0;
	for (; n < json_array_size(list) && n < ALLOW_MAX; n++) {
		const char *entry = json_string_value(json_array_get(list, n));
		entries[n] = (char *)(uintptr_t)(entry ? entry : "");
	}
	int rc = allow_parse(entries, n, &allow, &e);
	FUZZ_CHECK(rc == 0 ? allow != NULL : !allow && e.code == rc && e.text[0]);
	if (rc != 0)
		return;
	allow_ssh(allow);
	for (size_t i = 0; i < 2; i++) {
		bool yes = allow_host(allow, pairs[i][0], 5432) == ALLOW_YES;
		FUZZ_CHECK(yes == (allow_host(allow, pairs[i][1], 5432) == ALLOW_YES));
		FUZZ_CHECK(yes == allows_address(allow, pairs[i][0], 5432));
		FUZZ_CHECK(yes == allows_address(allow, pairs[i][1], 5432));
	}
	FUZZ_CHECK(allow_host(allow, "db.internal", 22) == allow_host(allow, "DB.Internal.", 22));
	allow_free(&allow);
}

static void check_name(const struct offer *offer)
{
	char name[WORKER_NAME], session[LIMIT_ID + 1];
	int64_t generation = 0;
	name_make(offer->session, offer->generation, name);
	FUZZ_CHECK(!strchr(name, '/') && name[0] != '.');
	FUZZ_CHECK(name_parse(name, session, &generation));
	FUZZ_CHECK(strcmp(session, offer->session) == 0 && generation == offer->generation);
}

/* Through a worker's pipe and out again. */
static void check_job(const struct offer *offer)
{
	static struct job job;
	struct settings settings = { .state_dir = (char *)(uintptr_t) "/s",
				     .runtime_dir = (char *)(uintptr_t) "/r",
				     .ssh = (char *)(uintptr_t) "auto",
				     .sshd_path = (char *)(uintptr_t) "",
				     .connect_timeout_ms = 1000 };
	struct err e;
	json_t *urls = json_pack("[s]", "https://a");
	char *line = job_make(offer, &settings, "web-1", urls);
	FUZZ_CHECK(line && line[strlen(line) - 1] == '\n');
	FUZZ_CHECK(job_parse(line, strlen(line), &job, &e) == 0);
	FUZZ_CHECK(strcmp(job.offer.session, offer->session) == 0 && strcmp(job.offer.token, offer->token) == 0);
	FUZZ_CHECK(job.offer.generation == offer->generation && json_equal(job.offer.grant, offer->grant));
	job_free(&job);
	free(line);
	json_decref(urls);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct job job;
	json_t *json = NULL;
	struct offer offer;
	struct err e;
	if (job_parse((const char *)data, size, &job, &e) == 0)
		job_free(&job);
	if (json_parse((const char *)data, size, &json, &e) != 0)
		return 0;
	fuzz_fill(&offer, sizeof offer);
	int rc = offer_parse(json, &offer, &e);
	FUZZ_CHECK(rc == 0 || (e.code == rc && e.text[0] && fuzz_is_untouched(&offer, sizeof offer)));
	if (rc == 0) {
		check_name(&offer);
		check_job(&offer);
	}
	check_grant(json_object_get(json, "grant"));
	check_allow(json_object_get(json, "allow"));
	json_decref(json);
	return 0;
}
