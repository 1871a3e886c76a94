/* Text with wildcards and ${variables}, as a list of pieces: runs of plain text, '*', '?', and variables whose value
 * becomes plain text when a request is judged. A value is never read as a pattern again, so a claim of "*" is a star
 * and no wildcard. Nothing is allocated while matching.
 *
 * Matching goes back to the last '*' only, never further: the earliest place where the text between two stars fits is
 * as good as any later one. That makes the cost the product of both lengths at worst, and behind a '*' whole runs of
 * text are looked for at once. */
#include "server/policy/model.h"

#include <stdlib.h>
#include <string.h>

/* --- reading --- */

struct reader {
	const char *at;
	bool like;
	const struct policy_path *path;
	struct policy_pattern *out;
	size_t stored;
	struct policy_report *report;
};

static int add_piece(struct reader *r, enum policy_piece_kind kind)
{
	struct policy_pattern *p = r->out;
	if (p->n == LIMIT_POLICY_PIECES)
		return policy_mistake(r->report, r->path, "more than %u wildcards and variables", LIMIT_POLICY_PIECES);
	p->pieces[p->n++] = (struct policy_piece){ .kind = kind };
	return 0;
}

static int add_char(struct reader *r, char c)
{
	struct policy_pattern *p = r->out;
	bool variable_last = p->variable_count && p->variables[p->variable_count - 1].piece + 1 == p->n;
	if (p->n == 0 || p->pieces[p->n - 1].kind != POLICY_PIECE_TEXT || variable_last) {
		int rc = add_piece(r, POLICY_PIECE_TEXT);
		if (rc != 0)
			return rc;
		p->pieces[p->n - 1].text = p->store + r->stored;
	}
	p->store[r->stored++] = c;
	p->pieces[p->n - 1].len++;
	return 0;
}

/* Behind the key: ", 'default'". *end is left at what should be the closing brace. */
static int read_fallback(struct reader *r, const char **end, char **out)
{
	const char *s = *end + 1 + strspn(*end + 1, " ");
	const char *quote = *s == '\'' ? strchr(s + 1, '\'') : NULL;
	if (!quote)
		return policy_mistake(r->report, r->path, "default value of a variable; allowed: ${key, 'text'}");
	*out = strndup(s + 1, (size_t)(quote - s - 1));
	if (!*out)
		return policy_no_memory(r->report);
	*end = quote + 1 + strspn(quote + 1, " ");
	return 0;
}

static int read_variable(struct reader *r)
{
	struct policy_pattern *p = r->out;
	const char *name = r->at + 2, *end = name + strcspn(name, ",}");
	size_t len = (size_t)(end - name);
	while (len && name[len - 1] == ' ')
		len--;
	if (*end == '}' && len == 1 && strchr("*?$", *name)) {
		r->at = end + 1;
		return add_char(r, *name);
	}
	if (p->variable_count == LIMIT_POLICY_VARIABLES)
		return policy_mistake(r->report, r->path, "more than %u variables", LIMIT_POLICY_VARIABLES);
	struct policy_variable *v = &p->variables[p->variable_count];
	int rc = *end ? policy_key_parse(name, len, r->path, &v->key, r->report)
		      : policy_mistake(r->report, r->path, "\"${\" without \"}\"; a plain dollar sign is ${$}");
	if (rc != 0)
		return rc;
	v->piece = p->n;
	p->variable_count++; /* from here on policy_pattern_free frees it */
	if (policy_key_is_list(&v->key))
		return policy_mistake(r->report, r->path, "%s has several values and cannot be a variable",
				      v->key.name);
	if (*end == ',' && (rc = read_fallback(r, &end, &v->fallback)) != 0)
		return rc;
	if (*end != '}')
		return policy_mistake(r->report, r->path, "\"${\" without \"}\"; a plain dollar sign is ${$}");
	r->at = end + 1;
	return add_piece(r, POLICY_PIECE_TEXT);
}

static int read_one(struct reader *r)
{
	struct policy_pattern *p = r->out;
	if (r->at[0] == '$' && r->at[1] == '{')
		return read_variable(r);
	char c = *r->at++;
	if (!r->like || (c != '*' && c != '?'))
		return add_char(r, c);
	if (c == '*' && p->n && p->pieces[p->n - 1].kind == POLICY_PIECE_RUN)
		return 0; /* "**" is "*" */
	return add_piece(r, c == '*' ? POLICY_PIECE_RUN : POLICY_PIECE_ONE);
}

static int shrink(struct policy_pattern *p, struct policy_report *report)
{
	/* Most patterns are one or two pieces; a thousand statements should stay in the cache. */
	struct policy_piece *pieces = realloc(p->pieces, (p->n ? p->n : 1) * sizeof *pieces);
	if (!pieces)
		return policy_no_memory(report);
	p->pieces = pieces;
	if (p->variable_count == 0) {
		free(p->variables);
		p->variables = NULL;
	}
	return 0;
}

int policy_pattern_parse(const char *text, bool like, const struct policy_path *path, struct policy_pattern *out,
			 struct policy_report *report)
{
	size_t len = strlen(text);
	if (len > LIMIT_POLICY_TEXT)
		return policy_mistake(report, path, "%zu bytes long; allowed: at most %u", len, LIMIT_POLICY_TEXT);
	struct policy_pattern p = { .store = calloc(1, len + 1),
				    .pieces = calloc(LIMIT_POLICY_PIECES, sizeof *p.pieces),
				    .variables = calloc(LIMIT_POLICY_VARIABLES, sizeof *p.variables) };
	struct reader r = { .at = text, .like = like, .path = path, .out = &p, .report = report };
	int rc = p.store && p.pieces && p.variables ? 0 : policy_no_memory(report);
	while (rc == 0 && *r.at)
		rc = read_one(&r);
	if (rc == 0)
		rc = shrink(&p, report);
	if (rc == 0)
		*out = p;
	else
		policy_pattern_free(&p);
	return rc;
}

void policy_pattern_free(struct policy_pattern *p)
{
	for (size_t i = 0; i < p->variable_count; i++) {
		free(p->variables[i].key.name);
		free(p->variables[i].fallback);
	}
	free(p->variables);
	free(p->pieces);
	free(p->store);
	memset(p, 0, sizeof *p);
}

/* --- matching --- */

static char fold(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static size_t next_char(const char *s, size_t len, size_t at)
{
	for (at++; at < len && ((unsigned char)s[at] & 0xc0) == 0x80; at++)
		;
	return at;
}

/* Where we are in the pattern and in the text. */
struct walk {
	const struct policy_piece *pieces;
	size_t n, piece, offset;
	const char *s;
	size_t len, at;
	bool ignore_case;
};

static bool equal_here(const struct walk *w)
{
	char a = w->pieces[w->piece].text[w->offset], b = w->s[w->at];
	return w->ignore_case ? fold(a) == fold(b) : a == b;
}

/* Behind a '*': jumps to where the run of text that follows occurs. False: nowhere. */
static bool jump(struct walk *w)
{
	if (w->ignore_case || w->piece == w->n || w->pieces[w->piece].kind != POLICY_PIECE_TEXT)
		return true;
	const struct policy_piece *run = &w->pieces[w->piece];
	const char *found = memmem(w->s + w->at, w->len - w->at, run->text, run->len);
	if (found)
		w->at = (size_t)(found - w->s);
	return found != NULL;
}

static bool match_pieces(const struct policy_piece *pieces, size_t n, bool ignore_case, const char *s, size_t len)
{
	struct walk w = { .pieces = pieces, .n = n, .s = s, .len = len, .ignore_case = ignore_case };
	size_t star = 0, star_at = 0; /* the piece behind the last '*' plus one, and where its run now ends */
	for (;;) {
		if (w.piece < n && pieces[w.piece].kind == POLICY_PIECE_TEXT && w.offset == pieces[w.piece].len) {
			w.piece++;
			w.offset = 0;
		} else if (w.piece < n && pieces[w.piece].kind == POLICY_PIECE_RUN) {
			star = ++w.piece;
			if (star == n)
				return true;
			if (!jump(&w))
				return false;
			star_at = w.at;
		} else if (w.at == len) {
			return w.piece == n;
		} else if (w.piece < n && pieces[w.piece].kind == POLICY_PIECE_ONE) {
			w.piece++;
			w.at = next_char(s, len, w.at);
		} else if (w.piece < n && equal_here(&w)) {
			w.offset++;
			w.at++;
		} else if (star) {
			w.piece = star;
			w.offset = 0;
			w.at = next_char(s, len, star_at);
			if (!jump(&w))
				return false;
			star_at = w.at;
		} else {
			return false;
		}
	}
}

/* The value of a variable becomes the text of its piece. False: it has none. */
static bool fill(const struct policy_variable *v, struct policy_view *view, char scratch[POLICY_SCRATCH],
		 struct policy_piece *piece)
{
	struct policy_values values;
	policy_view_values(view, &v->key, &values);
	piece->text = NULL;
	if (values.n == 1 && !values.array)
		piece->text = policy_scalar_as_text(values.fixed ? values.fixed : &values.own, scratch, &piece->len);
	if (!piece->text && v->fallback) {
		piece->text = v->fallback;
		piece->len = strlen(v->fallback);
	}
	return piece->text != NULL;
}

static enum policy_match match_variables(const struct policy_pattern *p, struct policy_view *view, bool ignore_case,
					 const char *text, size_t len)
{
	struct policy_piece pieces[LIMIT_POLICY_PIECES];
	char scratch[LIMIT_POLICY_VARIABLES][POLICY_SCRATCH];
	memcpy(pieces, p->pieces, p->n * sizeof *pieces);
	for (size_t i = 0; i < p->variable_count; i++)
		if (!fill(&p->variables[i], view, scratch[i], &pieces[p->variables[i].piece]))
			return POLICY_MATCH_UNSET;
	return match_pieces(pieces, p->n, ignore_case, text, len) ? POLICY_MATCH_YES : POLICY_MATCH_NO;
}

enum policy_match policy_pattern_match(const struct policy_pattern *p, struct policy_view *view, bool ignore_case,
				       const char *text, size_t len)
{
	if (p->variable_count)
		return match_variables(p, view, ignore_case, text, len);
	return match_pieces(p->pieces, p->n, ignore_case, text, len) ? POLICY_MATCH_YES : POLICY_MATCH_NO;
}

/* --- with values that are not known --- */

bool policy_pattern_is_open(const struct policy_pattern *p, const struct policy_view *view)
{
	for (size_t i = 0; i < p->variable_count; i++)
		if (!policy_view_knows(view, &p->variables[i].key))
			return true;
	return false;
}

bool policy_pattern_may_match(const struct policy_pattern *p, struct policy_view *view, const char *text, size_t len)
{
	struct policy_piece pieces[LIMIT_POLICY_PIECES];
	char scratch[LIMIT_POLICY_VARIABLES][POLICY_SCRATCH];
	memcpy(pieces, p->pieces, p->n * sizeof *pieces);
	for (size_t i = 0; i < p->variable_count; i++) {
		struct policy_piece *piece = &pieces[p->variables[i].piece];
		if (!policy_view_knows(view, &p->variables[i].key))
			piece->kind = POLICY_PIECE_RUN;
		else if (!fill(&p->variables[i], view, scratch[i], piece))
			return false;
	}
	return match_pieces(pieces, p->n, false, text, len);
}
