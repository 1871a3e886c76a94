#include "server/policy_set.h"

#include "base/limits.h"

#include <stdlib.h>
#include <string.h>

int policy_entry_new(const char *name, bool from_file, const json_t *document, struct policy_entry **out_entry,
		     struct policy_mistakes *mistakes, struct err *e)
{
	struct policy_entry *entry = calloc(1, sizeof *entry);
	if (!entry)
		return err_set(e, ERR_NOMEM, "out of memory");
	atomic_init(&entry->users, 1);
	entry->from_file = from_file;
	int rc = policy_parse(name, document, &entry->policy, mistakes, e);
	if (rc == 0)
		*out_entry = entry;
	else
		policy_entry_drop(&entry);
	return rc;
}

void policy_entry_drop(struct policy_entry **entry)
{
	struct policy_entry *it = *entry;
	*entry = NULL;
	if (!it || atomic_fetch_sub(&it->users, 1) > 1)
		return;
	policy_free(&it->policy);
	free(it);
}

static int by_name(const void *a, const void *b)
{
	const struct policy_entry *const *x = a, *const *y = b;
	return strcmp(policy_name((*x)->policy), policy_name((*y)->policy));
}

static int check_names(const struct policy_set *set, struct err *e)
{
	for (size_t i = 1; i < set->n; i++)
		if (by_name(&set->entries[i - 1], &set->entries[i]) == 0)
			return err_set(e, ERR_CONFLICT,
				       "policy \"%s\" is both in policy_dir and in the store; remove one",
				       policy_name(set->entries[i]->policy));
	return 0;
}

int policy_set_new(struct policy_entry *const *entries, size_t n, struct policy_set **out_set, struct err *e)
{
	if (n > LIMIT_POLICIES)
		return err_set(e, ERR_CONFLICT, "%zu policies; allowed: at most %u", n, LIMIT_POLICIES);
	struct policy_set *set = calloc(1, sizeof *set);
	if (!set)
		return err_set(e, ERR_NOMEM, "out of memory");
	atomic_init(&set->users, 1);
	set->entries = calloc(n + 1, sizeof(struct policy_entry *));
	set->parsed = calloc(n + 1, sizeof(const struct policy *));
	int rc = set->entries && set->parsed ? 0 : err_set(e, ERR_NOMEM, "out of memory");
	for (size_t i = 0; rc == 0 && i < n; i++) {
		atomic_fetch_add(&entries[i]->users, 1);
		set->entries[set->n++] = entries[i];
	}
	if (rc == 0) {
		qsort(set->entries, set->n, sizeof(struct policy_entry *), by_name);
		rc = check_names(set, e);
	}
	for (size_t i = 0; rc == 0 && i < n; i++)
		set->parsed[i] = set->entries[i]->policy;
	if (rc == 0)
		*out_set = set;
	else
		policy_set_drop(&set);
	return rc;
}

struct policy_set *policy_set_use(struct policy_set *set)
{
	atomic_fetch_add(&set->users, 1);
	return set;
}

void policy_set_drop(struct policy_set **set)
{
	struct policy_set *it = *set;
	*set = NULL;
	if (!it || atomic_fetch_sub(&it->users, 1) > 1)
		return;
	for (size_t i = 0; i < it->n; i++)
		policy_entry_drop(&it->entries[i]);
	free(it->entries);
	free(it->parsed);
	free(it);
}

const struct policy_entry *policy_set_find(const struct policy_set *set, const char *name)
{
	for (size_t i = 0; i < set->n; i++)
		if (strcmp(policy_name(set->entries[i]->policy), name) == 0)
			return set->entries[i];
	return NULL;
}

int policy_set_with(const struct policy_set *set, const char *name, struct policy_entry *entry,
		    struct policy_set **out_set, struct err *e)
{
	struct policy_entry **entries = calloc(set->n + 1, sizeof(struct policy_entry *));
	if (!entries)
		return err_set(e, ERR_NOMEM, "out of memory");
	size_t n = 0;
	for (size_t i = 0; i < set->n; i++)
		if (strcmp(policy_name(set->entries[i]->policy), name) != 0)
			entries[n++] = set->entries[i];
	if (entry)
		entries[n++] = entry;
	int rc = policy_set_new(entries, n, out_set, e);
	free(entries);
	return rc;
}
