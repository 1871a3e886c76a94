/* Prints the route table, one "METHOD pattern credential action" a line, for check_openapi.py. */
#include "server/api_call.h"

#include <stdio.h>

int main(void)
{
	static const char *const credentials[] = { "none", "identity", "handler" };
	for (const struct api_route *r = api_routes; r->method; r++)
		printf("%s %s %s %s\n", r->method, r->pattern, credentials[r->credential], r->action ? r->action : "-");
	return 0;
}
