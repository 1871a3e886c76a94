/* A set of policies that is in force as a whole. Immutable and counted: who holds one may use it while another takes
 * its place. For policies*.c. */
#ifndef SERVER_POLICY_SET_H
#define SERVER_POLICY_SET_H

#include "server/policies.h"

#include <stdatomic.h>

#define POLICIES_COLLECTION "policies"

struct store;

struct policy_entry {
	atomic_uint users;
	bool from_file;
	struct policy *policy;
};
struct policy_set {
	atomic_uint users;
	size_t n;
	struct policy_entry **entries; /* by name */
	const struct policy **parsed;  /* the same, for policy_evaluate */
	uint64_t mark; /* of what the store had when the set was loaded; 0: it was not loaded, but made of another */
};

/* mistakes: of the document, as policy_parse has them; may be NULL. */
int policy_entry_new(const char *name, bool from_file, const json_t *document, struct policy_entry **out_entry,
		     struct policy_mistakes *mistakes, struct err *e);
void policy_entry_drop(struct policy_entry **entry);

/* Takes users of its own on the entries, which need no order. ERR_CONFLICT: too many, or a name twice. */
int policy_set_new(struct policy_entry *const *entries, size_t n, struct policy_set **out_set, struct err *e);
struct policy_set *policy_set_use(struct policy_set *set);
void policy_set_drop(struct policy_set **set);
const struct policy_entry *policy_set_find(const struct policy_set *set, const char *name);
/* *set with one entry put in its name's place or added; entry NULL: without that name. */
int policy_set_with(const struct policy_set *set, const char *name, struct policy_entry *entry,
		    struct policy_set **out_set, struct err *e);

/* All of policy_dir (NULL or "": none) and of the store (NULL: none). */
int policy_set_load_blocking(const char *policy_dir, struct store *store, struct policy_set **out_set, struct err *e);
/* What a set that is loaded now would be marked with: another number when anything has changed. */
int policy_set_mark_blocking(struct store *store, uint64_t *out_mark, struct err *e);

/* A user of the set in force now. */
struct policy_set *policies_current_anythread(struct policies *p);

#endif
