/* The keys of the state folder over what may happen between two of their changes. */
#include "support/case.h"

#include "agent/state.h"
#include "ident/key.h"

#include <sys/stat.h>
#include <unistd.h>

#define SERVER "https://localhost"

static void same_key(EVP_PKEY *a, EVP_PKEY *b)
{
	assert_int_equal(EVP_PKEY_eq(a, b), 1);
}

static void enrol(const char *folder, struct state *out)
{
	EVP_PKEY *identity = NULL, *link = NULL;
	struct err e = { 0 };
	assert_int_equal(state_prepare_keys(folder, &identity, &link, &e), 0);
	assert_int_equal(state_commit(folder, "web-1", SERVER, &e), 0);
	assert_int_equal(state_load(folder, out, &e), 0);
	same_key(out->identity, identity);
	EVP_PKEY_free(identity);
	EVP_PKEY_free(link);
}

static void test_an_enrolment_that_is_not_all_on_disk_is_repeated_with_its_keys(void **state)
{
	(void)state;
	char folder[64], in_the_way[128];
	EVP_PKEY *identity = NULL, *link = NULL, *identity_again = NULL, *link_again = NULL, *kept = NULL;
	struct state s;
	struct err e = { 0 };
	snprintf(in_the_way, sizeof in_the_way, "%s/target.json", case_folder(folder));
	assert_int_equal(mkdir(in_the_way, 0700), 0);
	assert_int_equal(state_prepare_keys(folder, &identity, &link, &e), 0);
	assert_int_equal(state_commit(folder, "web-1", SERVER, &e), ERR_IO);
	assert_int_equal(rmdir(in_the_way), 0);
	assert_int_equal(state_prepare_keys(folder, &identity_again, &link_again, &e), 0);
	same_key(identity_again, identity);
	same_key(link_again, link);
	assert_int_equal(state_commit(folder, "web-1", SERVER, &e), 0);
	assert_int_equal(state_load(folder, &s, &e), 0);
	same_key(s.identity, identity);
	assert_int_equal(state_load_link_key(folder, &kept, &e), 0);
	same_key(kept, link);
	state_free(&s);
	EVP_PKEY_free(kept);
	EVP_PKEY_free(identity);
	EVP_PKEY_free(link);
	EVP_PKEY_free(identity_again);
	EVP_PKEY_free(link_again);
	enrol(folder, &s); /* another time, with other keys */
	state_free(&s);
	case_folder_remove(folder);
}

/* Lets the server take the next key of s; then is that what a restart finds? */
static void take_and_restart(const char *folder, struct state *s)
{
	struct state after;
	struct err e = { 0 };
	assert_int_equal(state_take_next(folder, s, &e), 0);
	assert_null(s->next);
	assert_int_equal(state_load(folder, &after, &e), 0);
	same_key(after.identity, s->identity);
	state_free(&after);
}

static void test_the_key_that_the_server_took_lasts(void **state)
{
	(void)state;
	char folder[64], next[128];
	EVP_PKEY *later = NULL;
	struct state s;
	struct err e = { 0 };
	snprintf(next, sizeof next, "%s/identity.pem.next", case_folder(folder));
	enrol(folder, &s);
	assert_int_equal(state_make_next(folder, &e), 0);
	assert_int_equal(state_find_next(folder, &s, &e), 0);
	take_and_restart(folder, &s);
	assert_int_equal(state_has_next(folder), 0);
	/* its file is taken away meanwhile */
	assert_int_equal(state_make_next(folder, &e), 0);
	assert_int_equal(state_find_next(folder, &s, &e), 0);
	assert_int_equal(unlink(next), 0);
	take_and_restart(folder, &s);
	/* or is another one's by now, who is next then */
	assert_int_equal(state_make_next(folder, &e), 0);
	assert_int_equal(state_find_next(folder, &s, &e), 0);
	assert_int_equal(unlink(next), 0);
	assert_int_equal(key_load_or_create(next, &later, &e), 0);
	take_and_restart(folder, &s);
	assert_int_equal(state_find_next(folder, &s, &e), 0);
	same_key(s.next, later);
	EVP_PKEY_free(later);
	state_free(&s);
	case_folder_remove(folder);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_enrolment_that_is_not_all_on_disk_is_repeated_with_its_keys),
		cmocka_unit_test(test_the_key_that_the_server_took_lasts),
	};
	return RUN_CASES(tests);
}
