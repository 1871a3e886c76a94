/* What can be said of a request in question, for the commands that ask the policies about requests that nobody made.
 * What is not said is not part of it: nothing is taken from the profile. */
#ifndef CLI_POLICY_ABOUT_H
#define CLI_POLICY_ABOUT_H

#include "cli/args.h"

#include <jansson.h>

struct policy_about {
	const char *login, *host, *port, *path, *source_ip, *time, *provider;
	struct arg_list claims, tags, actions;
};

#define POLICY_ABOUT_ROWS(type)                                                                                       \
	{ "action", 'a', ARG_LIST, offsetof(struct type, about.actions), "ACTION", "\"OpenSsh\"; may be repeated" },  \
		{ "login", 'l', ARG_TEXT, offsetof(struct type, about.login), "LOGIN", "login on the target" },       \
		{ "host", 0, ARG_TEXT, offsetof(struct type, about.host), "HOST", "of an endpoint, for OpenTcp" },    \
		{ "port", 0, ARG_TEXT, offsetof(struct type, about.port), "PORT", "of an endpoint, for OpenTcp" },    \
		{ "path", 0, ARG_TEXT, offsetof(struct type, about.path), "PATH", "of a unix socket, for OpenUnix" }, \
		{ "source-ip", 0,                                                                                     \
		  ARG_TEXT,    offsetof(struct type, about.source_ip),                                                \
		  "ADDRESS",   "where the caller calls from" },                                                       \
		{ "time", 0, ARG_TEXT, offsetof(struct type, about.time), "TIME", "when: \"2026-01-31T09:15:00Z\"" }, \
		{ "provider", 0,                                                                                      \
		  ARG_TEXT,   offsetof(struct type, about.provider),                                                  \
		  "NAME",     "auth provider that named the caller" },                                                \
		{ "claim",      0,                                                                                    \
		  ARG_LIST,     offsetof(struct type, about.claims),                                                  \
		  "NAME=VALUE", "claim of the caller; repeated with one name: a list" },                              \
	{                                                                                                             \
		"tag", 0, ARG_LIST, offsetof(struct type, about.tags), "KEY=VALUE",                                   \
			"tag of the target, instead of those that it has; may be repeated"                            \
	}

/* The condition keys that it says. EXIT_CODE_OK, or it has complained. */
int policy_about_context(const struct policy_about *a, json_t **out_context);
/* "OpenSsh" for short. */
json_t *policy_about_action(const char *action);
json_t *policy_about_list(const struct arg_list *list, json_t *make(const char *));

#endif
