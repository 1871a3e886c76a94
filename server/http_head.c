#include "server/http.h"

#include "base/secret.h"

#include <stdlib.h>
#include <string.h>

void http_head_free(struct http_head *head)
{
	if (head->block) {
		secret_wipe(head->block, head->block_size);
		free(head->block);
	}
	memset(head, 0, sizeof *head);
}

const char *http_head_get(const struct http_head *head, const char *lower_case_name)
{
	for (size_t i = 0; i < head->header_count; i++)
		if (strcmp(head->headers[i].name, lower_case_name) == 0)
			return head->headers[i].value;
	return NULL;
}
