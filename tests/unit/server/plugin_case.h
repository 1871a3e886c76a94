/* Sections for plugin_open, as a config file would give them. */
#ifndef TESTS_PLUGIN_CASE_H
#define TESTS_PLUGIN_CASE_H

#include "support/case.h"

#include "server/plugin_host.h"

/* A section of lines "key=value"; the i-th stands at server.conf:<10 + i>, "plugin" is the 0-th. */
struct section_case {
	struct conf_pair pairs[24];
	char texts[24][3][256];
	struct conf_section section;
};

static inline const struct conf_section *section_of(struct section_case *s, const char *plugin,
						    const char *const *lines)
{
	static char where[] = "server.conf:9";
	memset(s, 0, sizeof *s);
	s->section = (struct conf_section){ .pairs = s->pairs, .where = where };
	for (size_t i = 0; i == 0 || (lines && lines[i - 1]); i++) {
		const char *line = i ? lines[i - 1] : "plugin=";
		size_t key = strcspn(line, "=");
		snprintf(s->texts[i][0], sizeof s->texts[i][0], "%.*s", (int)key, line);
		snprintf(s->texts[i][1], sizeof s->texts[i][1], "%s", i ? line + key + 1 : plugin);
		snprintf(s->texts[i][2], sizeof s->texts[i][2], "server.conf:%zu", 10 + i);
		s->pairs[i] = (struct conf_pair){ s->texts[i][0], s->texts[i][1], s->texts[i][2] };
		s->section.n = i + 1;
	}
	return &s->section;
}

#define LINES(...) ((const char *const[]){ __VA_ARGS__, NULL })

static inline void assert_says(const struct err *e, const char *part)
{
	if (!strstr(e->text, part))
		fail_msg("expected \"%s\" in: %s", part, e->text);
}

#endif
