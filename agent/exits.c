#include "agent/exits.h"

#include "base/file.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FRAME_MAX (64u * 1024) /* bytes of a record beside its reports, and the last of them */

int exits_path(const char *runtime_dir, const char *name, const char *suffix, char out[EXITS_PATH], struct err *e)
{
	int n = snprintf(out, EXITS_PATH, "%s/%s.%s", runtime_dir, name, suffix);
	if (n < 0 || n >= EXITS_PATH)
		return err_set(e, ERR_LIMIT, "%.60s…: the path is too long", runtime_dir);
	return 0;
}

int exits_write(const char *runtime_dir, const char *name, const json_t *reports, struct err *e)
{
	char path[EXITS_PATH];
	int rc = exits_path(runtime_dir, name, "exit", path, e);
	if (rc)
		return rc;
	json_auto_t *json = json_pack("{s:s, s:O}", "worker", name, "reports", reports);
	char *text = json ? json_text(json) : NULL;
	if (!text)
		return err_set(e, ERR_NOMEM, "out of memory");
	rc = file_write(path, text, strlen(text), 0600, e);
	free(text);
	return rc;
}

int exits_read(const char *runtime_dir, const char *name, json_t **out_reports, struct err *e)
{
	char path[EXITS_PATH];
	struct buf text;
	json_t *json = NULL, *reports = NULL;
	const struct json_field fields[] = {
		{ "reports", JSON_FIELD_ARRAY, true, 0, 0, (void *)&reports },
		{ .name = NULL },
	};
	int rc = exits_path(runtime_dir, name, "exit", path, e);
	if (!rc)
		rc = file_read(path, EXITS_REPORTS + FRAME_MAX, &text, e);
	if (rc)
		return rc;
	rc = json_parse((const char *)buf_data(&text), text.len, &json, e);
	if (!rc)
		rc = json_read(json, path, false, fields, e);
	if (!rc)
		*out_reports = json_incref(reports);
	json_decref(json);
	buf_free(&text);
	return rc;
}

void exits_remove(const char *runtime_dir, const char *name)
{
	static const char *const suffixes[] = { "sock", "sshd", "exit" };
	char path[EXITS_PATH];
	for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++)
		if (exits_path(runtime_dir, name, suffixes[i], path, NULL) == 0)
			unlink(path);
}
