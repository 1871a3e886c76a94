/* The credentials file of auth-hmac. What is taken can be found, and its groups are JSON; secrets, which libconfig does
 * not get to see, are what it would have read. */
#include "fuzz.h"

#include "plugins/auth-hmac/credentials.h"

#include <jansson.h>
#include <libconfig.h>
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

static void check_secrets(const struct credentials *set, const char *text)
{
	config_t config;
	config_init(&config);
	FUZZ_CHECK(config_read_string(&config, text) == CONFIG_TRUE);
	const config_setting_t *list = config_lookup(&config, "credentials");
	FUZZ_CHECK(list && (size_t)config_setting_length(list) == set->n);
	for (size_t i = 0; i < set->n; i++) {
		const config_setting_t *entry = config_setting_get_elem(list, (unsigned)i);
		const char *key_id = NULL, *secret = NULL;
		config_setting_lookup_string(entry, "key_id", &key_id);
		config_setting_lookup_string(entry, "secret", &secret);
		const struct credential *c = credentials_find(set, key_id);
		FUZZ_CHECK(c && (strcmp(c->secret, secret) == 0 || secret[0] == '\x01'));
	}
	config_destroy(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct credentials *set = calloc(1, sizeof *set);
	char err[256] = "";
	atomic_init(&set->refs, 1);
	int rc = credentials_read_file(fuzz_file(data, size), set, err, sizeof err);
	FUZZ_CHECK(rc == 0 || (rc == -1 && err[0]));
	if (rc == 0) {
		char *text = strndup((const char *)data, size);
		check(set);
		check_secrets(set, text);
		free(text);
	}
	credentials_unref(set);
	return 0;
}
