/* An intrusive doubly linked list; the head is a node of its own. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next, *prev;
};

#define LIST_ENTRY(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))
#define LIST_EACH(node, head) for (struct list *node = (head)->next; node != (head); node = node->next)
/* The node may be removed inside the body. */
#define LIST_EACH_SAFE(node, after, head) \
	for (struct list *node = (head)->next, *after = node->next; node != (head); node = after, after = node->next)

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}
static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}
static inline void list_append(struct list *head, struct list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}
static inline void list_remove(struct list *node) /* harmless on a node that is in no list but was initialised */
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

#endif
