#include "net/curl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define LIBCURL "libcurl.so.4" /* its only one since 2006; the headers promise what it has */

struct curl_library libcurl;

/* Where each function goes. */
static const struct {
	const char *name;
	size_t at;
} functions[] = {
	{ "curl_global_init", offsetof(struct curl_library, global_init) },
	{ "curl_easy_init", offsetof(struct curl_library, easy_init) },
	{ "curl_easy_setopt", offsetof(struct curl_library, easy_setopt) },
	{ "curl_easy_perform", offsetof(struct curl_library, easy_perform) },
	{ "curl_easy_getinfo", offsetof(struct curl_library, easy_getinfo) },
	{ "curl_easy_cleanup", offsetof(struct curl_library, easy_cleanup) },
	{ "curl_easy_strerror", offsetof(struct curl_library, easy_strerror) },
	{ "curl_slist_append", offsetof(struct curl_library, slist_append) },
	{ "curl_slist_free_all", offsetof(struct curl_library, slist_free_all) },
};

static int load(struct err *e)
{
	void *handle = dlopen(LIBCURL, RTLD_NOW | RTLD_LOCAL);
	if (!handle) {
		const char *why = dlerror();
		return err_set(e, ERR_UNAVAILABLE, "%s, which asks servers: %s", LIBCURL, why ? why : "not loaded");
	}
	for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
		void *function = dlsym(handle, functions[i].name);
		if (!function)
			return err_set(e, ERR_UNAVAILABLE, "%s has no %s", LIBCURL, functions[i].name);
		memcpy((char *)&libcurl + functions[i].at, &function, sizeof function); /* POSIX, dlsym: as it is */
	}
	return libcurl.global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 0 : err_set(e, ERR_NOMEM, "out of memory");
}

int curl_load(struct err *e)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static bool loaded;
	pthread_mutex_lock(&lock);
	int rc = loaded ? 0 : load(e);
	loaded = rc == 0;
	pthread_mutex_unlock(&lock);
	return rc;
}
