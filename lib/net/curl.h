/* libcurl, loaded with the first REST call: it brings some thirty libraries (LDAP, Kerberos, RTMP with GnuTLS …), more
 * than half of what it takes to start a program of ours, and an agent with its sessions hardly ever makes such a call.
 */
#ifndef NET_CURL_H
#define NET_CURL_H

#include "base/err.h"

#include <curl/curl.h>

/* The functions that net/http.c uses, by libcurl's names. */
struct curl_library {
	CURLcode (*global_init)(long);
	CURL *(*easy_init)(void);
	CURLcode (*easy_setopt)(CURL *, CURLoption, ...);
	CURLcode (*easy_perform)(CURL *);
	CURLcode (*easy_getinfo)(CURL *, CURLINFO, ...);
	void (*easy_cleanup)(CURL *);
	const char *(*easy_strerror)(CURLcode);
	struct curl_slist *(*slist_append)(struct curl_slist *, const char *);
	void (*slist_free_all)(struct curl_slist *);
};

/* Set once curl_load has answered 0. */
extern struct curl_library libcurl;

/* Before the first use of libcurl; ERR_UNAVAILABLE or ERR_NOMEM with words when it cannot be loaded, and the next call
 * tries again. Any thread, blocking. */
int curl_load(struct err *e);

#endif
