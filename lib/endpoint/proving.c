/* The proofs of this end (DPoP), and the time in them. A machine that slept, or whose clock was never set, would be
 * refused for its clock alone; the server that refuses it says what time it is there. That is believed for the proofs
 * and nothing else, and learnt anew when it is wrong again: the machine's clock may be set right in between. */
#include "endpoint/internal.h"

#include "base/clock.h"
#include "ident/proof.h"

int proving_make(const struct endpoint *ep, const char *method, const char *url, char out[PROOF_TEXT_MAX],
		 struct err *e)
{
	return proof_make_dpop(ep->key, method, url, ep->token, clock_wall_ms() + ep->clock_ahead_ms, out, e);
}

void proving_learn_time(struct endpoint *ep, int64_t server_wall_ms)
{
	ep->clock_ahead_ms = server_wall_ms - clock_wall_ms();
}
