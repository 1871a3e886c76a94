/* A plugin's life: load and check (plugin_load.c), options (plugin_options.c), open, calls (plugin_calls.c), close.
 * Here are the ends of that life, and the services that a plugin gets from us. */
#include "server/plugin_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "server/metrics.h"

#include <string.h>

#define RELOAD_TURN_MS 5000 /* for a call's deadline to pass */

static void host_log(void *ctx, enum tunnel_log_level level, const char *text)
{
	const struct plugin *p = ctx;
	static const enum log_level levels[] = { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
	enum log_level at = (unsigned)level <= TUNNEL_LOG_DEBUG ? levels[level] : LOG_LEVEL_ERROR;
	log_with(at, FIELDS({ "plugin", p->name }), "%s", text ? text : "");
}

static int64_t host_wall_ms(void *ctx)
{
	(void)ctx;
	return clock_wall_ms();
}

static int64_t host_mono_ms(void *ctx)
{
	(void)ctx;
	return clock_mono_ms();
}

static void host_random(void *ctx, void *out, size_t n)
{
	(void)ctx;
	secret_random(out, n);
}

static void host_count(void *ctx, const char *name, uint64_t n)
{
	const struct plugin *p = ctx;
	if (p->metrics && name && *name && strspn(name, "abcdefghijklmnopqrstuvwxyz_") == strlen(name))
		metrics_plugin_add(p->metrics, p->name, name, n);
}

static int name_of_section(const struct conf_section *section, enum tunnel_kind kind, const struct conf_pair **out,
			   struct err *e)
{
	int rc = conf_section_key(section, "plugin", out, e);
	if (rc == 0 && !*out)
		rc = err_set(e, ERR_INVALID, "%s: plugin is missing (the name of a plugin of kind %s)", section->where,
			     plugin_kind_text((uint32_t)kind));
	return rc;
}

static int open_instance(struct plugin *p, const struct option_values *values, struct err *e)
{
	char why[200] = "";
	void *instance = NULL;
	p->is_open = true; /* from here on its code may have left threads behind: stays mapped */
	int rc = p->desc.open(&p->host, values->at, values->n, &instance, why, sizeof why);
	why[sizeof why - 1] = '\0';
	if (rc == TUNNEL_OK) {
		p->instance = instance;
		return 0;
	}
	return err_set(e,
		       rc == TUNNEL_UNAVAILABLE ? ERR_UNAVAILABLE
		       : rc == TUNNEL_TIMEOUT   ? ERR_TIMEOUT
						: ERR_INVALID,
		       "plugin %s: %s", p->name, why[0] ? why : "open failed and gave no reason");
}

int plugin_open(const char *plugin_dir, const struct conf_section *section, enum tunnel_kind kind,
		struct metrics *metrics, struct plugin **out_plugin, struct err *e)
{
	const struct conf_pair *name = NULL;
	struct plugin *p = NULL;
	struct option_values values = { NULL, 0 };
	int rc = name_of_section(section, kind, &name, e);
	if (rc == 0)
		rc = plugin_load(plugin_dir, name->value, name->where, kind, &p, e);
	if (rc == 0)
		rc = plugin_options_check(p, section, &values, e);
	if (rc == 0) {
		p->metrics = metrics;
		p->host = (struct tunnel_host){ .size = sizeof p->host,
						.abi = TUNNEL_ABI,
						.ctx = p,
						.log = host_log,
						.wall_ms = host_wall_ms,
						.mono_ms = host_mono_ms,
						.random = host_random,
						.count = host_count };
		rc = open_instance(p, &values, e);
		if (rc != 0)
			err_wrap(e, "%s", section->where);
	}
	plugin_options_free(&values);
	if (rc != 0)
		plugin_unload(&p);
	else
		*out_plugin = p;
	return rc;
}

int plugin_check(const char *plugin_dir, const struct conf_section *section, enum tunnel_kind kind, struct err *e)
{
	const struct conf_pair *name = NULL;
	struct plugin *p = NULL;
	struct option_values values = { NULL, 0 };
	int rc = name_of_section(section, kind, &name, e);
	if (rc == 0)
		rc = plugin_load(plugin_dir, name->value, name->where, kind, &p, e);
	if (rc == 0)
		rc = plugin_options_check(p, section, &values, e);
	plugin_options_free(&values);
	plugin_unload(&p);
	return rc;
}

void plugin_close(struct plugin **plugin)
{
	if (!plugin || !*plugin)
		return;
	(*plugin)->desc.close((*plugin)->instance);
	plugin_unload(plugin);
}

const char *plugin_name(const struct plugin *p)
{
	return p->name;
}

int plugin_reload(struct plugin *p, struct err *e)
{
	if (!p->desc.reload)
		return 0;
	char why[200] = "";
	if (plugin_turn_take(p, clock_mono_ms() + RELOAD_TURN_MS) != 0)
		return err_set(e, ERR_TIMEOUT,
			       "plugin %s: reload: its turn did not come within %d s, because a call has not come back",
			       p->name, RELOAD_TURN_MS / 1000);
	int rc = p->desc.reload(p->instance, why, sizeof why);
	plugin_turn_give(p);
	why[sizeof why - 1] = '\0';
	if (rc == TUNNEL_OK)
		return 0;
	return err_set(e, rc == TUNNEL_UNAVAILABLE ? ERR_UNAVAILABLE : ERR_INVALID, "plugin %s: reload: %s", p->name,
		       why[0] ? why : "failed and gave no reason");
}

int plugin_describe(const char *plugin_dir, const char *name, FILE *to, struct err *e)
{
	struct plugin *p = NULL;
	int rc = plugin_load(plugin_dir, name, NULL, PLUGIN_ANY_KIND, &p, e);
	if (rc != 0)
		return rc;
	const struct tunnel_plugin *d = &p->desc;
	fprintf(to, "%s %s\n  kind     %s\n  abi      %u.%u\n  threads  %s\n  reload   %s\n  file     %s\n", p->name,
		d->version ? d->version : "(no version)", plugin_kind_text(d->kind), d->abi >> 16, d->abi & 0xffff,
		d->threads == TUNNEL_THREADS_SERIAL ? "serial" : "parallel", d->reload ? "yes" : "no", p->file);
	fputs("options:\n", to);
	plugin_options_describe(p, to);
	plugin_unload(&p);
	return 0;
}

bool plugin_option_is_secret(const char *plugin_dir, const struct conf_section *section, const char *key)
{
	const struct conf_pair *name = NULL;
	struct plugin *p = NULL;
	bool secret = true;
	if (plugin_options_are_ours(key))
		return false;
	if (name_of_section(section, PLUGIN_ANY_KIND, &name, NULL) != 0 ||
	    plugin_load(plugin_dir, name->value, NULL, PLUGIN_ANY_KIND, &p, NULL) != 0)
		return true;
	struct tunnel_option_spec row;
	for (size_t i = 0; plugin_options_row(p, i, &row); i++)
		if (strcmp(row.key, key) == 0)
			secret = (row.flags & TUNNEL_OPTION_SECRET) != 0;
	plugin_unload(&p);
	return secret;
}
