#include "link/link.h"

static const char *const names[] = {
	[LINK_OK] = "ok",
	[LINK_NOT_ALLOWED] = "not-allowed",
	[LINK_REFUSED] = "refused",
	[LINK_UNREACHABLE] = "unreachable",
	[LINK_TIMEOUT] = "timeout",
	[LINK_UNKNOWN_STREAM] = "unknown-stream",
	[LINK_IO] = "io",
	[LINK_PROTOCOL] = "protocol",
	[LINK_LIMIT] = "limit",
	[LINK_TERMINATED] = "terminated",
	[LINK_INTERNAL] = "internal",
	[LINK_EXPIRED] = "expired",
};

const char *link_code_name(unsigned code)
{
	return code < sizeof(names) / sizeof(*names) ? names[code] : "unknown";
}
