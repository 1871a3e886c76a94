/* What most doubles have in common: an auth plugin that names the value of the header "x-user" as the caller. */
#ifndef DOUBLES_DOUBLE_H
#define DOUBLES_DOUBLE_H

#include <stdio.h>
#include <string.h>
#include <tunnel/auth.h>

static inline int double_open(const struct tunnel_host *host, const struct tunnel_option *options, size_t n,
			      void **out_instance, char *err, size_t err_len)
{
	(void)host, (void)options, (void)n, (void)err, (void)err_len;
	*out_instance = NULL;
	return TUNNEL_OK;
}

static inline void double_close(void *instance)
{
	(void)instance;
}

static inline int double_verify(void *instance, const struct tunnel_call *call,
				const struct tunnel_auth_request *request, struct tunnel_identity *out)
{
	(void)instance;
	for (size_t i = 0; i < request->header_count; i++) {
		if (strcmp(request->headers[i].name, "x-user") != 0)
			continue;
		if (strcmp(request->headers[i].value, "mallory") == 0) {
			snprintf(call->err, call->err_len, "mallory is not welcome");
			return TUNNEL_DENIED;
		}
		snprintf(out->subject, sizeof out->subject, "%s", request->headers[i].value);
		return TUNNEL_OK;
	}
	return TUNNEL_NOT_MINE;
}

#endif
