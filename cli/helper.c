#include "cli/helper.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void helper_self(char out[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
	out[n > 0 ? n : 0] = '\0';
}

static bool is_ours(const char *path, mode_t kind)
{
	struct stat st;
	return lstat(path, &st) == 0 && (st.st_mode & S_IFMT) == kind && !(st.st_mode & (S_IWGRP | S_IWOTH)) &&
	       (st.st_uid == 0 || st.st_uid == geteuid());
}

/* The last two parts of a path, such as /bin/tunnel-cli, are cut off. */
static bool cut_program(char path[PATH_MAX])
{
	for (int i = 0; i < 2; i++) {
		char *slash = strrchr(path, '/');
		if (!slash)
			return false;
		*slash = '\0';
	}
	return true;
}

bool helper_find(const char *name, char out[PATH_MAX])
{
	char prefix[PATH_MAX], folder[PATH_MAX], path[PATH_MAX];
	helper_self(prefix);
	if (!cut_program(prefix) ||
	    snprintf(folder, sizeof folder, "%s/" TUNNEL_LIBEXEC, prefix) >= (int)sizeof folder ||
	    snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
		return false;
	if (!is_ours(folder, S_IFDIR) || !is_ours(path, S_IFREG) || access(path, X_OK) != 0)
		return false;
	snprintf(out, PATH_MAX, "%s", path);
	return true;
}
