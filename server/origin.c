#include "server/origin.h"

#include "server/policy/model.h"

#include <stdlib.h>
#include <string.h>

bool origin_of(const char *address, struct origin *out)
{
	struct policy_net net;
	if (policy_net_parse(address, &net) != NULL)
		return false;
	memset(out, 0, sizeof *out);
	out->bytes[0] = net.base.v6;
	memcpy(out->bytes + 1, net.base.bytes, net.base.v6 ? 8 : 4);
	return true;
}

int origins_parse(const char *setting, const struct conf_strings *texts, struct origins *out, struct err *e)
{
	struct origins all = { calloc(texts->n ? texts->n : 1, sizeof *all.at), 0 };
	if (!all.at)
		return err_set(e, ERR_NOMEM, "out of memory");
	for (; all.n < texts->n; all.n++) {
		const char *why = policy_net_parse(texts->at[all.n], &all.at[all.n]);
		if (why) {
			err_set(e, ERR_INVALID, "%s: \"%s\": %s", setting, texts->at[all.n], why);
			origins_free(&all);
			return ERR_INVALID;
		}
	}
	*out = all;
	return 0;
}

bool origins_hold(const struct origins *o, const char *address)
{
	struct policy_net net;
	if (o->n == 0 || policy_net_parse(address, &net) != NULL)
		return false;
	for (size_t i = 0; i < o->n; i++)
		if (policy_net_holds(&o->at[i], &net.base))
			return true;
	return false;
}

void origins_free(struct origins *o)
{
	free(o->at);
	*o = (struct origins){ NULL, 0 };
}
