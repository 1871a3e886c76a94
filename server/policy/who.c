/* Who may: each Allow statement gives a row for each of its principals, each Deny statement is held against each row.
 *
 * A statement is judged with a view in which only some keys have a value. What depends on another key is neither true
 * nor false: it is left standing in the row as a condition, and who reads it decides. Where a principal is one user,
 * tunnel:Subject is known as well. Between a row's principal and a Deny's the only question is how they overlap; who is
 * in which group is not known here, so a user and a group may always meet. */
#include "server/policy/who.h"

#include "server/policy/model.h"

#include <stdlib.h>
#include <string.h>

/* --- principals --- */

struct term {
	enum { TERM_USER, TERM_GROUP, TERM_ANY_GROUP, TERM_EVERYONE, TERM_EXCEPT } kind;
	const char *name;
	const struct policy_statement *of; /* TERM_EXCEPT: of whose lists */
};

/* The i-th principal of a statement; false: it has no more. */
static bool term_at(const struct policy_statement *s, size_t i, struct term *out)
{
	*out = (struct term){ .of = s };
	if (s->not_principal || s->users.all) {
		out->kind = s->not_principal ? TERM_EXCEPT : TERM_EVERYONE;
		return i == 0 && !(s->not_principal && s->users.all);
	}
	if (i < s->users.n) {
		out->kind = TERM_USER;
		out->name = s->users.at[i];
		return true;
	}
	i -= s->users.n;
	if (s->groups.all) {
		out->kind = TERM_ANY_GROUP;
		return i == 0;
	}
	out->kind = TERM_GROUP;
	out->name = i < s->groups.n ? s->groups.at[i] : NULL;
	return out->name != NULL;
}

static bool within(const struct policy_names *some, const struct policy_names *names)
{
	for (size_t i = 0; i < some->n; i++)
		if (!policy_names_hold(names, some->at[i]))
			return false;
	return names->all || !some->all;
}

enum share { SHARE_NONE, SHARE_SOME, SHARE_ALL };

/* How many of the term's people may a statement's lists name? */
static enum share named_by(const struct term *t, const struct policy_statement *s)
{
	bool groups = s->groups.all || s->groups.n, users = s->users.n;
	if (s->users.all)
		return SHARE_ALL;
	switch (t->kind) {
	case TERM_USER:
		return policy_names_hold(&s->users, t->name) ? SHARE_ALL : groups ? SHARE_SOME : SHARE_NONE;
	case TERM_GROUP:
		return policy_names_hold(&s->groups, t->name) ? SHARE_ALL : groups || users ? SHARE_SOME : SHARE_NONE;
	case TERM_ANY_GROUP:
		return s->groups.all ? SHARE_ALL : SHARE_SOME;
	case TERM_EVERYONE:
		return SHARE_SOME;
	case TERM_EXCEPT:
		return within(&s->users, &t->of->users) && within(&s->groups, &t->of->groups) ? SHARE_NONE : SHARE_SOME;
	}
	return SHARE_SOME;
}

/* How many of the term's people is a statement about? */
static enum share concerned_by(const struct term *t, const struct policy_statement *s)
{
	enum share named = named_by(t, s);
	if (!s->not_principal)
		return named;
	return named == SHARE_ALL ? SHARE_NONE : named == SHARE_NONE ? SHARE_ALL : SHARE_SOME;
}

/* --- judging with what is known --- */

#define BIT(key) (1u << (key))
#define UNKNOWN                                                                                                    \
	(BIT(POLICY_KEY_LOGIN) | BIT(POLICY_KEY_HOST) | BIT(POLICY_KEY_PORT) | BIT(POLICY_KEY_PATH) |              \
	 BIT(POLICY_KEY_KIND) | BIT(POLICY_KEY_SOURCE_IP) | BIT(POLICY_KEY_CURRENT_TIME) | BIT(POLICY_KEY_GROUP) | \
	 BIT(POLICY_KEY_SUBJECT) | BIT(POLICY_KEY_PROVIDER) | BIT(POLICY_KEY_CLAIM))

struct known {
	struct policy_request request;
	struct policy_view view;
};

static void known_init(struct known *k, const char *resource, const struct policy_who_question *q, const struct term *t)
{
	bool user = t->kind == TERM_USER;
	k->request = (struct policy_request){
		.subject = user ? t->name : "", .action = q->action, .resource = resource, .context = q->context
	};
	policy_view_init(&k->view, &k->request);
	k->view.unknown = user ? UNKNOWN & ~BIT(POLICY_KEY_SUBJECT) : UNKNOWN;
}

static enum policy_truth judge(const struct policy_statement *s, struct policy_view *view)
{
	enum policy_truth truth = s->actions & view->action ? policy_resource_judge(s, view) : POLICY_NO;
	enum policy_truth conditions = truth == POLICY_NO ? POLICY_NO : policy_conditions_judge(s, view);
	return conditions == POLICY_YES ? truth : conditions;
}

/* --- rows. NULL: out of memory --- */

static json_t *names_json(const struct policy_names *names)
{
	json_t *list = json_array();
	if (names->all)
		json_array_append_new(list, json_string("*"));
	for (size_t i = 0; i < names->n && !names->all; i++)
		json_array_append_new(list, json_string(names->at[i]));
	return list;
}

static json_t *term_json(const struct term *t)
{
	switch (t->kind) {
	case TERM_USER:
		return json_pack("{s:s}", "user", t->name);
	case TERM_GROUP:
		return json_pack("{s:s}", "group", t->name);
	case TERM_ANY_GROUP:
		return json_pack("{s:s}", "group", "*");
	case TERM_EVERYONE:
		return json_pack("{s:b}", "everyone", 1);
	case TERM_EXCEPT:
		break;
	}
	return json_pack("{s:{s:o, s:o}}", "everyone_except", "users", names_json(&t->of->users), "groups",
			 names_json(&t->of->groups));
}

/* What of a statement the view leaves open. */
static json_t *open_json(const struct policy_statement *s, struct policy_view *view)
{
	json_t *list = json_array();
	int rc = 0;
	if (policy_resource_judge(s, view) == POLICY_UNKNOWN)
		rc |= json_array_append_new(list, json_pack("{s:o}", s->not_resource ? "NotResource" : "Resource",
							    json_deep_copy(s->resource)));
	for (size_t i = 0; i < s->condition_count; i++) {
		const struct policy_condition *c = &s->conditions[i];
		if (policy_condition_is_open(c, view))
			rc |= json_array_append_new(
				list, json_pack("{s:{s:o}}", c->op_text, c->key.name, json_deep_copy(c->values)));
	}
	if (rc == 0)
		return list;
	json_decref(list);
	return NULL;
}

struct source {
	const struct policy *policy;
	const struct policy_statement *statement;
};

static json_t *unless_json(const struct source *d, enum share share, struct policy_view *view)
{
	json_t *who = share == SHARE_ALL ? NULL : json_array();
	struct term t;
	for (size_t i = 0; who && term_at(d->statement, i, &t); i++)
		json_array_append_new(who, term_json(&t));
	return json_pack("{s:s, s:s, s:o*, s:o}", "policy", d->policy->name, "statement", d->statement->name, "who",
			 who, "if", open_json(d->statement, view));
}

/* --- walking --- */

struct walk {
	const char *resource;
	const struct policy_who_question *questions;
	size_t n;
	struct source *denies;
	size_t deny_count;
	json_t *rows;
	size_t steps;
	bool more;
};

/* The Denies that may undo a row. false: one undoes it for certain, or *out_unless is NULL (out of memory). */
static bool survives(struct walk *w, const struct term *t, struct policy_view *view, json_t **out_unless)
{
	json_t *unless = json_array();
	bool undone = false;
	int rc = 0;
	for (size_t i = 0; i < w->deny_count && !undone && rc == 0; i++) {
		enum share share = concerned_by(t, w->denies[i].statement);
		enum policy_truth truth = share == SHARE_NONE ? POLICY_NO : judge(w->denies[i].statement, view);
		undone = truth == POLICY_YES && share == SHARE_ALL;
		if (truth != POLICY_NO && !undone)
			rc = json_array_append_new(unless, unless_json(&w->denies[i], share, view));
	}
	w->steps += w->deny_count + 1;
	if (undone || rc != 0) {
		json_decref(unless);
		unless = rc ? NULL : json_null();
	}
	*out_unless = unless;
	return unless && !undone;
}

/* The same answer as for the action before? Then one row is enough. */
static bool join(json_t *row, const json_t *ifs, const json_t *unless, const char *action)
{
	return row && json_equal(json_object_get(row, "if"), ifs) &&
	       json_equal(json_object_get(row, "unless"), unless) &&
	       json_array_append_new(json_object_get(row, "actions"), json_string(action)) == 0;
}

/* One principal of one Allow statement, and one action. *row: that of the action before, NULL: none. */
static int add_action(struct walk *w, const struct source *s, const struct term *t, const struct policy_who_question *q,
		      json_t **row)
{
	struct known k;
	json_t *unless = NULL;
	known_init(&k, w->resource, q, t);
	if (judge(s->statement, &k.view) == POLICY_NO)
		return 0;
	if (!survives(w, t, &k.view, &unless))
		return unless ? 0 : ERR_NOMEM;
	json_t *ifs = open_json(s->statement, &k.view);
	int rc = ifs ? 0 : ERR_NOMEM;
	if (rc == 0 && !join(*row, ifs, unless, q->action)) {
		bool certain = json_array_size(ifs) == 0 && json_array_size(unless) == 0;
		*row = json_pack("{s:o, s:[s], s:s, s:s, s:b, s:O, s:O}", "who", term_json(t), "actions", q->action,
				 "policy", s->policy->name, "statement", s->statement->name, "certain", certain, "if",
				 ifs, "unless", unless);
		rc = json_array_append_new(w->rows, *row) == 0 ? 0 : ERR_NOMEM;
	}
	json_decref(ifs);
	json_decref(unless);
	return rc;
}

static int add_statement(struct walk *w, const struct source *s)
{
	struct term t;
	int rc = 0;
	for (size_t i = 0; rc == 0 && term_at(s->statement, i, &t); i++) {
		json_t *row = NULL;
		w->more = w->more || json_array_size(w->rows) >= LIMIT_POLICY_WHO_ROWS ||
			  w->steps >= LIMIT_POLICY_WHO_STEPS;
		for (size_t k = 0; k < w->n && rc == 0 && !w->more; k++)
			rc = add_action(w, s, &t, &w->questions[k], &row);
	}
	return rc;
}

static size_t count_denies(const struct policy *const *policies, size_t count, struct source *out)
{
	size_t n = 0;
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < policies[i]->n; k++) {
			const struct policy_statement *s = &policies[i]->statements[k];
			if (s->effect != POLICY_DENY)
				continue;
			if (out)
				out[n] = (struct source){ policies[i], s };
			n++;
		}
	return n;
}

static int walk_all(struct walk *w, const struct policy *const *policies, size_t count)
{
	int rc = 0;
	w->deny_count = count_denies(policies, count, NULL);
	w->denies = calloc(w->deny_count + 1, sizeof *w->denies);
	if (!w->denies || !w->rows)
		return ERR_NOMEM;
	count_denies(policies, count, w->denies);
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < policies[i]->n && rc == 0; k++) {
			const struct source s = { policies[i], &policies[i]->statements[k] };
			if (s.statement->effect == POLICY_ALLOW)
				rc = add_statement(w, &s);
		}
	return rc;
}

int policy_who(const struct policy *const *policies, size_t count, const char *resource,
	       const struct policy_who_question *questions, size_t n, json_t **out_rows, bool *out_more, struct err *e)
{
	for (size_t i = 0; i < n; i++)
		if (policy_action_check(questions[i].action, e) != 0)
			return ERR_INVALID;
	struct walk w = { .resource = resource, .questions = questions, .n = n, .rows = json_array() };
	int rc = walk_all(&w, policies, count);
	free(w.denies);
	if (rc != 0) {
		json_decref(w.rows);
		return err_set(e, rc, "out of memory");
	}
	*out_rows = w.rows;
	*out_more = w.more;
	return 0;
}
