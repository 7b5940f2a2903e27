/* See pager.h. */
#include "vmm/pager.h"

#include "lib/string.h"

#define KEY_CTRL_C 3

void pager_begin(struct pager *p)
{
	*p = (struct pager){.on = true, .left = PAGER_ROWS};
}

void pager_put(struct pager *p, const char *text, size_t len)
{
	if (p->at == p->len)
		p->at = p->len = 0;
	len = MIN(len, sizeof(p->text) - p->len);
	memcpy(p->text + p->len, text, len);
	p->len += len;
}

size_t pager_take(struct pager *p, const char **text)
{
	size_t from = p->at;

	while (p->left && p->at < p->len)
		p->left -= p->text[p->at++] == '\n';
	*text = p->text + from;
	return p->at - from;
}

bool pager_waits(const struct pager *p)
{
	return p->on && !p->left && p->at < p->len;
}

void pager_key(struct pager *p, u8 c)
{
	if (c == ' ')
		p->left = PAGER_ROWS;
	else if (c == '\r' || c == '\n')
		p->left = 1;
	else if (c == 'q' || c == KEY_CTRL_C)
		p->quit = true;
}
