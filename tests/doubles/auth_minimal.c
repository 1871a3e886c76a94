/* The least that a plugin can be. */
#include "double.h"

static const struct tunnel_auth_ops ops = { .size = sizeof ops, .verify = double_verify };

static const struct tunnel_plugin descriptor = {
	.size = sizeof descriptor,
	.abi = TUNNEL_ABI,
	.kind = TUNNEL_KIND_AUTH,
	.name = "auth-minimal",
	.open = double_open,
	.close = double_close,
	.ops = &ops,
};
TUNNEL_PLUGIN_REGISTER(descriptor)
