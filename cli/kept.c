#include "cli/kept.h"

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUFFIX ".json"

static int folder_path(char out[PATH_MAX], struct err *e)
{
	const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	int n;
	if (xdg && *xdg == '/')
		n = snprintf(out, PATH_MAX, "%s/tunnel/sessions", xdg);
	else if (home && *home)
		n = snprintf(out, PATH_MAX, "%s/.local/state/tunnel/sessions", home);
	else
		return err_set(e, ERR_NOT_FOUND, "neither XDG_STATE_HOME nor HOME is set");
	return n > 0 && n < PATH_MAX ? 0 : err_set(e, ERR_INVALID, "the path of the state folder is too long");
}

static int file_path(const char *session, char out[PATH_MAX], struct err *e)
{
	char folder[PATH_MAX];
	int rc = folder_path(folder, e);
	if (rc != 0)
		return rc;
	int n = snprintf(out, PATH_MAX, "%s/%s" SUFFIX, folder, session);
	return n > 0 && n < PATH_MAX ? 0 : err_set(e, ERR_INVALID, "the path of the state file is too long");
}

static const char *const names[FORWARD_WAYS] = {
	[FORWARD_LOCAL] = "forwards",
	[FORWARD_SOCKS] = "socks",
	[FORWARD_REVERSE] = "reverse",
};

static json_t *to_json(const struct kept_session *k)
{
	json_t *json = json_pack("{s:s, s:s, s:s*, s:s*, s:s*, s:I}", "session", k->session, "target", k->target,
				 "server", k->server, "profile", k->profile, "config", k->config, "expires_at_ms",
				 (json_int_t)k->expires_ms);
	for (size_t way = 0; json && way < FORWARD_WAYS; way++) {
		json_t *list = json_array();
		for (size_t i = 0; i < k->forwards.at[way].n; i++)
			json_array_append_new(list, json_string(k->forwards.at[way].at[i]));
		json_object_set_new(json, names[way], list);
	}
	return json;
}

/* Fields of out point into json. */
static int from_json(json_t *json, struct kept_session *out, struct err *e)
{
	json_t *lists[FORWARD_WAYS] = { NULL };
	const struct json_field fields[] = {
		{ "session", JSON_FIELD_STRING, true, 1, LIMIT_ID, &out->session },
		{ "target", JSON_FIELD_STRING, true, 1, LIMIT_ID, &out->target },
		{ "server", JSON_FIELD_STRING, false, 1, 0, &out->server },
		{ "profile", JSON_FIELD_STRING, false, 1, 0, &out->profile },
		{ "config", JSON_FIELD_STRING, false, 1, 0, &out->config },
		{ "expires_at_ms", JSON_FIELD_INT, true, 0, INT64_MAX, &out->expires_ms },
		{ names[FORWARD_LOCAL], JSON_FIELD_STRINGS, true, 0, ARG_LIST_MAX, &lists[FORWARD_LOCAL] },
		{ names[FORWARD_SOCKS], JSON_FIELD_STRINGS, false, 0, ARG_LIST_MAX, &lists[FORWARD_SOCKS] },
		{ names[FORWARD_REVERSE], JSON_FIELD_STRINGS, false, 0, ARG_LIST_MAX, &lists[FORWARD_REVERSE] },
		{ .name = NULL },
	};
	int rc = json_read(json, "state", false, fields, e);
	if (rc != 0)
		return rc;
	for (size_t way = 0; way < FORWARD_WAYS; way++) {
		struct arg_list *list = &out->forwards.at[way];
		for (size_t i = 0; i < json_array_size(lists[way]); i++)
			list->at[list->n++] = json_string_value(json_array_get(lists[way], i));
	}
	out->json = json;
	return 0;
}

static int read_file(const char *path, struct kept_session *out, struct err *e)
{
	struct buf text;
	json_t *json = NULL;
	memset(out, 0, sizeof *out);
	int rc = secret_read_file(path, &text, e); /* for its checks of mode and owner */
	if (rc != 0)
		return rc;
	rc = json_parse((const char *)buf_data(&text), text.len, &json, e);
	buf_free(&text);
	if (rc == 0)
		rc = from_json(json, out, e);
	if (rc == 0)
		return 0;
	json_decref(json);
	memset(out, 0, sizeof *out);
	return err_wrap(e, "%s", path);
}

/* Clients that were killed leave their files; a session that has expired cannot be resumed. */
static void sweep(const char *folder, int64_t wall_ms)
{
	DIR *d = opendir(folder);
	if (!d)
		return;
	for (const struct dirent *entry = readdir(d); entry; entry = readdir(d)) {
		size_t n = strlen(entry->d_name);
		char path[PATH_MAX];
		struct kept_session k;
		struct err e;
		if (n <= strlen(SUFFIX) || strcmp(entry->d_name + n - strlen(SUFFIX), SUFFIX) != 0 ||
		    snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) >= (int)sizeof path)
			continue;
		if (read_file(path, &k, &e) != 0)
			continue;
		if (k.expires_ms < wall_ms)
			unlink(path);
		kept_free(&k);
	}
	closedir(d);
}

int kept_write(const struct kept_session *k, int64_t wall_ms, struct err *e)
{
	char folder[PATH_MAX], path[PATH_MAX];
	int rc = folder_path(folder, e);
	if (rc == 0)
		rc = file_mkdir(folder, 0700, e);
	if (rc == 0)
		rc = file_path(k->session, path, e);
	if (rc != 0)
		return rc;
	sweep(folder, wall_ms);
	json_t *json = to_json(k);
	char *text = json ? json_text(json) : NULL;
	json_decref(json);
	rc = text ? secret_write_file(path, text, strlen(text), e) : err_set(e, ERR_NOMEM, "out of memory");
	free(text);
	return rc;
}

int kept_read(const char *session, struct kept_session *out, struct err *e)
{
	char path[PATH_MAX];
	memset(out, 0, sizeof *out);
	int rc = file_path(session, path, e);
	if (rc == 0 && access(path, F_OK) != 0)
		rc = err_set(e, ERR_NOT_FOUND, "%s is missing", path);
	if (rc == 0)
		rc = read_file(path, out, e);
	if (rc == 0 && strcmp(out->session, session) != 0) {
		kept_free(out);
		rc = err_set(e, ERR_INVALID, "%s is of another session", path);
	}
	return rc;
}

void kept_free(struct kept_session *k)
{
	json_decref(k->json);
	memset(k, 0, sizeof *k);
}

void kept_remove(const char *session)
{
	char path[PATH_MAX];
	struct err e;
	if (file_path(session, path, &e) == 0)
		unlink(path);
}
