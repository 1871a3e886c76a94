/* The policies in force. Readers take a user of the present set under a short lock and judge without it; whoever
 * changes something builds the next set beside it and swaps. Changes of one node come one after the other; between
 * nodes the store's last write wins and the others hear of it on the channel. */
#include "server/policies.h"

#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/text.h"
#include "server/policy_set.h"
#include "server/server.h"
#include "server/store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct policies {
	struct server *server;
	pthread_mutex_t change; /* held while a new set is made */
	pthread_mutex_t swap;   /* held while set is read or replaced */
	struct policy_set *set;
};

struct policy_set *policies_current_anythread(struct policies *p)
{
	pthread_mutex_lock(&p->swap);
	struct policy_set *set = policy_set_use(p->set);
	pthread_mutex_unlock(&p->swap);
	return set;
}

static void put_in_force(struct policies *p, struct policy_set *next)
{
	pthread_mutex_lock(&p->swap);
	struct policy_set *old = p->set;
	p->set = next;
	pthread_mutex_unlock(&p->swap);
	policy_set_drop(&old);
}

int policies_open_blocking(struct server *server, struct policies **out_policies, struct err *e)
{
	struct policy_set *set = NULL;
	int rc = policy_set_load_blocking(server->settings->policy_dir, server->store, &set, e);
	if (rc != 0)
		return rc;
	struct policies *p = calloc(1, sizeof *p);
	if (!p) {
		policy_set_drop(&set);
		return err_set(e, ERR_NOMEM, "out of memory");
	}
	p->server = server;
	p->set = set;
	pthread_mutex_init(&p->change, NULL);
	pthread_mutex_init(&p->swap, NULL);
	*out_policies = p;
	return 0;
}

void policies_close(struct policies **policies)
{
	struct policies *p = *policies;
	*policies = NULL;
	if (!p)
		return;
	policy_set_drop(&p->set);
	pthread_mutex_destroy(&p->swap);
	pthread_mutex_destroy(&p->change);
	free(p);
}

int policies_reload_blocking(struct policies *p, struct err *e)
{
	struct policy_set *next = NULL;
	pthread_mutex_lock(&p->change);
	int rc = policy_set_load_blocking(p->server->settings->policy_dir, p->server->store, &next, e);
	if (rc == 0)
		put_in_force(p, next);
	pthread_mutex_unlock(&p->change);
	return rc;
}

int policies_look_blocking(struct policies *p, bool *out_changed, struct err *e)
{
	uint64_t now;
	int rc = policy_set_mark_blocking(p->server->store, &now, e);
	struct policy_set *set = policies_current_anythread(p);
	*out_changed = rc == 0 && set->mark != now;
	policy_set_drop(&set);
	return *out_changed ? policies_reload_blocking(p, e) : rc;
}

bool policies_turn_anythread(struct policies *p, int64_t first_ms, int64_t last_ms)
{
	struct policy_set *set = policies_current_anythread(p);
	bool turns = false;
	for (size_t i = 0; i < set->n && !turns; i++)
		turns = policy_turns(set->parsed[i], first_ms, last_ms);
	policy_set_drop(&set);
	return turns;
}

void policies_evaluate_anythread(struct policies *p, const struct policy_request *request, struct policy_decision *out)
{
	struct policy_set *set = policies_current_anythread(p);
	policy_evaluate(set->parsed, set->n, request, out);
	policy_set_drop(&set);
}

void policies_evaluate_any_endpoint_anythread(struct policies *p, const struct policy_request *request,
					      struct policy_decision *out)
{
	struct policy_set *set = policies_current_anythread(p);
	policy_evaluate_any_endpoint(set->parsed, set->n, request, out);
	policy_set_drop(&set);
}

/* Best effort: what a lost message leaves out is found by the others' sweeps. */
static void tell_others(struct policies *p, const char *name)
{
	struct err e = { 0 };
	json_t *message = json_pack("{s:s, s:s}", "node", p->server->node, "name", name);
	if (!message || store_publish_blocking(p->server->store, POLICIES_CHANNEL, message, &e) != 0)
		log_warn("policy %s: telling the other nodes: %s", name, message ? e.text : "out of memory");
	json_decref(message);
}

static int refuse_file(const struct policy_set *set, const char *name, struct err *e)
{
	const struct policy_entry *entry = policy_set_find(set, name);
	if (!entry || !entry->from_file)
		return 0;
	return err_set(e, ERR_CONFLICT, "policy \"%s\" comes from a file of policy_dir; change it there", name);
}

/* With p->change held, so p->set stays. next is made before the store is written: what can fail fails while nothing has
 * happened yet. */
static int put_locked(struct policies *p, const char *name, struct policy_entry *entry, struct err *e)
{
	struct policy_set *next = NULL;
	int rc = refuse_file(p->set, name, e);
	if (rc == 0)
		rc = policy_set_with(p->set, name, entry, &next, e);
	if (rc == 0)
		rc = store_put_blocking(p->server->store, POLICIES_COLLECTION, name, policy_document(entry->policy),
					TUNNEL_VERSION_ANY, 0, NULL, NULL, e);
	if (rc == 0)
		put_in_force(p, next);
	else
		policy_set_drop(&next);
	return rc;
}

static int check_size(const json_t *document, struct err *e)
{
	char *text = json_text(document);
	size_t len = text ? strlen(text) : 0;
	free(text);
	if (!text)
		return err_set(e, ERR_NOMEM, "out of memory");
	if (len > LIMIT_POLICY_FILE)
		return err_set(e, ERR_INVALID, "policy of %zu bytes; allowed: at most %u", len, LIMIT_POLICY_FILE);
	return 0;
}

static int make_entry(const char *name, const json_t *document, struct policy_entry **out_entry,
		      struct policy_mistakes *mistakes, struct err *e)
{
	int rc = check_size(document, e);
	return rc ? rc : policy_entry_new(name, false, document, out_entry, mistakes, e);
}

int policies_may_put(struct policies *p, const char *name, const json_t *document, struct policy_mistakes *mistakes,
		     struct err *e)
{
	struct policy_set *set = policies_current_anythread(p), *next = NULL;
	struct policy_entry *entry = NULL;
	int rc = make_entry(name, document, &entry, mistakes, e);
	if (rc == 0)
		rc = policy_check_meets(document, mistakes, e);
	if (rc == 0)
		rc = refuse_file(set, name, e);
	if (rc == 0)
		rc = policy_set_with(set, name, entry, &next, e);
	policy_set_drop(&next);
	policy_entry_drop(&entry);
	policy_set_drop(&set);
	return rc;
}

int policies_put_blocking(struct policies *p, const char *name, const json_t *document, struct err *e)
{
	struct policy_entry *entry = NULL;
	int rc = make_entry(name, document, &entry, NULL, e);
	if (rc != 0)
		return rc;
	pthread_mutex_lock(&p->change);
	rc = put_locked(p, name, entry, e);
	pthread_mutex_unlock(&p->change);
	policy_entry_drop(&entry);
	if (rc == 0)
		tell_others(p, name);
	return rc;
}

static int not_found(const char *name, struct err *e)
{
	return err_set(e, ERR_NOT_FOUND, "no policy \"%s\"", text_is_id(name) ? name : "of that name");
}

int policies_get_blocking(struct policies *p, const char *name, json_t **out_document, struct err *e)
{
	struct policy_set *set = policies_current_anythread(p);
	const struct policy_entry *entry = policy_set_find(set, name);
	json_t *copy = entry ? json_deep_copy(policy_document(entry->policy)) : NULL;
	int rc = 0;
	if (!entry)
		rc = not_found(name, e);
	else if (!copy)
		rc = err_set(e, ERR_NOMEM, "out of memory");
	else
		*out_document = copy;
	policy_set_drop(&set);
	return rc;
}

int policies_may_del_blocking(struct policies *p, const char *name, struct err *e)
{
	struct policy_set *set = policies_current_anythread(p);
	bool known = policy_set_find(set, name) != NULL;
	int rc = refuse_file(set, name, e);
	policy_set_drop(&set);
	if (rc || known)
		return rc;
	/* Another node may have put it a moment ago. */
	json_t *doc = NULL;
	uint64_t version;
	rc = text_is_id(name) ? store_get_blocking(p->server->store, POLICIES_COLLECTION, name, &doc, &version, e)
			      : ERR_NOT_FOUND;
	if (rc == 0)
		json_decref(doc);
	return rc == ERR_NOT_FOUND ? not_found(name, e) : rc;
}

static int del_locked(struct policies *p, const char *name, struct err *e)
{
	struct policy_set *next = NULL;
	int rc = refuse_file(p->set, name, e);
	if (rc == 0)
		rc = policy_set_with(p->set, name, NULL, &next, e);
	if (rc != 0)
		return rc;
	rc = store_del_blocking(p->server->store, POLICIES_COLLECTION, name, TUNNEL_VERSION_ANY, e);
	/* When it is gone already, another node was faster: it must not stay in force here either. */
	if (rc == 0 || rc == ERR_NOT_FOUND)
		put_in_force(p, next);
	else
		policy_set_drop(&next);
	return rc == ERR_NOT_FOUND ? not_found(name, e) : rc;
}

int policies_del_blocking(struct policies *p, const char *name, struct err *e)
{
	if (!text_is_id(name))
		return not_found(name, e);
	pthread_mutex_lock(&p->change);
	int rc = del_locked(p, name, e);
	pthread_mutex_unlock(&p->change);
	if (rc == 0)
		tell_others(p, name);
	return rc;
}

json_t *policies_list(struct policies *p)
{
	struct policy_set *set = policies_current_anythread(p);
	json_t *list = json_array();
	for (size_t i = 0; i < set->n; i++)
		json_array_append_new(list, json_pack("{s:s, s:s}", "name", policy_name(set->entries[i]->policy),
						      "source", set->entries[i]->from_file ? "file" : "store"));
	policy_set_drop(&set);
	return list;
}
