/* Reads every policy there is, from the folder and from the store. All or nothing: with one document broken the set is
 * refused, because leaving it out could leave out a Deny. */
#include "server/policy_set.h"

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/text.h"
#include "server/store.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct found {
	struct policy_entry **at;
	size_t n;
	struct err *e;
	int rc;
	uint64_t mark;
};

/* An error has room for the first one; who mends a document wants to know all. */
static void log_mistakes(const char *name, const struct policy_mistakes *m)
{
	size_t i;
	const json_t *one;
	if (m->n > 1)
		json_array_foreach(m->list, i, one)
			log_error("policy %s: %s%s%s", name, json_string_value(json_object_get(one, "path")),
				  *json_string_value(json_object_get(one, "path")) ? ": " : "",
				  json_string_value(json_object_get(one, "text")));
}

static int add(struct found *f, const char *name, bool from_file, const json_t *document, struct err *e)
{
	if (f->n == LIMIT_POLICIES)
		return err_set(e, ERR_LIMIT, "more than %u policies", LIMIT_POLICIES);
	struct policy_mistakes mistakes = { .n = 0 };
	int rc = policy_entry_new(name, from_file, document, &f->at[f->n], &mistakes, e);
	if (rc == 0)
		f->n++;
	log_mistakes(name, &mistakes);
	policy_mistakes_free(&mistakes);
	return rc;
}

static int read_document(const char *path, json_t **out_document, struct err *e)
{
	struct buf text;
	int rc = file_read(path, LIMIT_POLICY_FILE, &text, e);
	if (rc != 0)
		return rc;
	rc = json_parse((const char *)buf_data(&text), text.len, out_document, e);
	buf_free(&text);
	return rc == 0 ? 0 : err_wrap(e, "%s", path);
}

static int add_file(struct found *f, const char *folder, const char *file, struct err *e)
{
	char path[PATH_MAX], name[NAME_MAX + 1];
	if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, file) >= sizeof path)
		return err_set(e, ERR_INVALID, "%s: path too long", folder);
	snprintf(name, sizeof name, "%.*s", (int)(strlen(file) - strlen(".json")), file);
	json_t *document = NULL;
	int rc = read_document(path, &document, e);
	if (rc != 0)
		return rc;
	rc = add(f, name, true, document, e);
	json_decref(document);
	return rc == 0 ? 0 : err_wrap(e, "%s", path);
}

/* Editors and package managers leave their own files beside ours. */
static int is_policy_file(const struct dirent *entry)
{
	size_t n = strlen(entry->d_name), tail = strlen(".json");
	return entry->d_name[0] != '.' && n > tail && strcmp(entry->d_name + n - tail, ".json") == 0;
}

static int add_folder(struct found *f, const char *folder, struct err *e)
{
	struct dirent **files = NULL;
	int n = scandir(folder, &files, is_policy_file, alphasort);
	if (n < 0)
		return err_set_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "policy_dir %s", folder);
	int rc = 0;
	for (int i = 0; i < n; i++) {
		if (rc == 0)
			rc = add_file(f, folder, files[i]->d_name, e);
		free(files[i]);
	}
	free(files);
	return rc;
}

static void mark_text(uint64_t *m, const char *text)
{
	for (const char *c = text; *c; c++)
		*m = (*m ^ (unsigned char)*c) * 1099511628211u;
	*m = (*m ^ 0x100) * 1099511628211u;
}

/* FNV-1a over names and documents, which a store gives in the order of names. (A version begins anew when a policy is
 * deleted and made again.) */
static void mark(uint64_t *m, const char *key, const json_t *document)
{
	char *text = json_text(document);
	mark_text(m, key);
	mark_text(m, text ? text : "");
	free(text);
}
#define MARK_FIRST 14695981039346656037u

static int add_stored(void *arg, const char *key, json_t *document, uint64_t version)
{
	(void)version;
	struct found *f = arg;
	mark(&f->mark, key, document);
	f->rc = add(f, key, false, document, f->e);
	if (f->rc != 0)
		err_wrap(f->e, "policy \"%s\" in the store", key);
	return f->rc;
}

static int add_store(struct found *f, struct store *store, struct err *e)
{
	char cursor[TUNNEL_CURSOR_MAX] = "";
	f->e = e;
	do {
		int rc = store_scan_blocking(store, POLICIES_COLLECTION, NULL, NULL, LIMIT_SCAN_PAGE, cursor,
					     add_stored, f, e);
		if (rc != 0)
			return err_wrap(e, "reading policies");
	} while (cursor[0] && f->rc == 0);
	return f->rc;
}

int policy_set_load_blocking(const char *policy_dir, struct store *store, struct policy_set **out_set, struct err *e)
{
	struct found f = { .at = calloc(LIMIT_POLICIES, sizeof(struct policy_entry *)), .mark = MARK_FIRST };
	if (!f.at)
		return err_set(e, ERR_NOMEM, "out of memory");
	int rc = policy_dir && *policy_dir ? add_folder(&f, policy_dir, e) : 0;
	if (rc == 0 && store)
		rc = add_store(&f, store, e);
	if (rc == 0)
		rc = policy_set_new(f.at, f.n, out_set, e);
	if (rc == 0)
		(*out_set)->mark = f.mark;
	for (size_t i = 0; i < f.n; i++)
		policy_entry_drop(&f.at[i]);
	free(f.at);
	return rc;
}

static int mark_stored(void *arg, const char *key, json_t *document, uint64_t version)
{
	(void)version;
	mark(arg, key, document);
	return 0;
}

int policy_set_mark_blocking(struct store *store, uint64_t *out_mark, struct err *e)
{
	char cursor[TUNNEL_CURSOR_MAX] = "";
	*out_mark = MARK_FIRST;
	do {
		int rc = store_scan_blocking(store, POLICIES_COLLECTION, NULL, NULL, LIMIT_SCAN_PAGE, cursor,
					     mark_stored, out_mark, e);
		if (rc != 0)
			return err_wrap(e, "reading policies");
	} while (cursor[0]);
	return 0;
}
