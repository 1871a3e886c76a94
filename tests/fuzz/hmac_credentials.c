/* The credentials file of auth-hmac. What is taken can be found, and its groups are JSON. */
#include "fuzz.h"

#include "plugins/auth-hmac/credentials.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static void check(const struct credentials *set)
{
	for (size_t i = 0; i < set->n; i++) {
		const struct credential *c = &set->at[i];
		FUZZ_CHECK(credentials_find(set, c->key_id) == c && key_id_is_valid(c->key_id, strlen(c->key_id)));
		FUZZ_CHECK(strlen(c->secret) >= SECRET_MIN && strlen(c->secret) <= SECRET_MAX);
		FUZZ_CHECK(c->subject[0] && strlen(c->subject) < TUNNEL_SUBJECT_MAX);
		FUZZ_CHECK(strlen(c->groups) < TUNNEL_GROUPS_MAX);
		json_t *groups = c->groups[0] ? json_loads(c->groups, 0, NULL) : json_array();
		FUZZ_CHECK(json_is_array(groups));
		json_t *subject = json_string(c->subject); /* NULL: not UTF-8 */
		FUZZ_CHECK(subject);
		json_decref(subject);
		json_decref(groups);
	}
	FUZZ_CHECK(!credentials_find(set, "nobody/at all"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct credentials *set = calloc(1, sizeof *set);
	char err[256] = "";
	atomic_init(&set->refs, 1);
	int rc = credentials_read_file(fuzz_file(data, size), set, err, sizeof err);
	FUZZ_CHECK(rc == 0 || (rc == -1 && err[0]));
	if (rc == 0)
		check(set);
	credentials_unref(set);
	return 0;
}
