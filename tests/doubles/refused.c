/* Plugins that must be refused before their first call; each variant breaks one thing. PLUGIN_NAME is the file's name.
 */
#include "double.h"

static const struct tunnel_auth_ops ops = {
	.size = sizeof ops,
#ifndef NO_VERIFY
	.verify = double_verify,
#endif
};

#ifdef BAD_ROWS
static const struct tunnel_option_spec options[] = {
	{ .size = 8, .key = "short_row" },
	{ .key = NULL },
};
#elif defined(TWO_ROWS)
static const struct tunnel_option_spec options[] = {
	{ .size = sizeof *options, .key = "twice" },
	{ .size = sizeof *options, .key = "twice" },
	{ .key = NULL },
};
#elif defined(PRIVATE_TEXT)
static const struct tunnel_option_spec options[] = {
	{ .size = sizeof *options, .key = "word", .flags = TUNNEL_OPTION_PRIVATE },
	{ .key = NULL },
};
#endif

#ifdef BAD_OPEN
static int fails(const struct tunnel_host *host, const struct tunnel_option *options, size_t n, void **out_instance,
		 char *err, size_t err_len)
{
	(void)host, (void)options, (void)n, (void)out_instance;
	memset(err, 'x', err_len); /* and does not even end its text */
	return TUNNEL_CONFIG;
}
#endif

__attribute__((unused)) static const struct tunnel_plugin descriptor = {
#ifdef SHORT_TABLE
	.size = offsetof(struct tunnel_plugin, ops),
#else
	.size = sizeof descriptor,
#endif
#ifdef FOREIGN_ABI
	.abi = (TUNNEL_ABI_MAJOR + 1) << 16 | 3,
#else
	.abi = TUNNEL_ABI,
#endif
	.kind = TUNNEL_KIND_AUTH,
#ifdef OTHER_NAME
	.name = "auth-somebody-else",
#else
	.name = PLUGIN_NAME,
#endif
#if defined(BAD_ROWS) || defined(TWO_ROWS) || defined(PRIVATE_TEXT)
	.options = options,
#endif
#ifdef BAD_OPEN
	.open = fails,
#else
	.open = double_open,
#endif
	.close = double_close,
	.ops = &ops,
};

#ifdef NO_DESCRIPTOR
TUNNEL_EXPORT tunnel_plugin_entry_fn tunnel_plugin_entry;
const struct tunnel_plugin *tunnel_plugin_entry(void)
{
	return NULL;
}
#elif !defined(NO_ENTRY)
TUNNEL_PLUGIN_REGISTER(descriptor)
#endif
