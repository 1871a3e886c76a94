#include "cli/ssh_name.h"

#include "base/text.h"

#include <string.h>
#include <strings.h>

int ssh_name_target(const char *host, const char *given, const char *suffix, char out[LIMIT_ID + 1], struct err *e)
{
	/* Targets' names have a case, host names have none. */
	const char *name = strcasecmp(host, given) == 0 ? given : host;
	size_t len = strlen(name), tail = strlen(suffix);
	if (len <= tail + 1 || name[len - tail - 1] != '.' || strcasecmp(name + len - tail, suffix) != 0)
		return err_set(e, ERR_INVALID, "%s: expected TARGET.%s", host, suffix);
	len -= tail + 1;
	if (len > LIMIT_ID)
		return err_set(e, ERR_INVALID, "%s: a target's name has at most %d characters", host, LIMIT_ID);
	memcpy(out, name, len);
	out[len] = '\0';
	if (!text_is_id(out))
		return err_set(e, ERR_INVALID, "%s: a target's name has letters, digits, . _ - only", host);
	return 0;
}
