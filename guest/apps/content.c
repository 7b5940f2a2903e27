/* See content.h. */
#include "guest/apps/content.h"
#include "lib/string.h"

#define WORDS     (PAGE_SIZE / sizeof(u64))
#define BODY      3
#define SUM       (WORDS - 1)
#define SOFT_RUN  16           /* words */
#define MAGIC     0x61657250ul /* "Prea", upper half of word 0 */
#define SAME_SEED 0x5a5a1234fedc0de5ul

u64 content_mix(u64 x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ul;
	x = (x ^ x >> 27) * 0x94d049bb133111ebul;
	return x ^ x >> 31;
}

enum content_kind content_kind(const struct content *c, u32 page)
{
	u32 n = content_mix(page * 0x9e3779b97f4a7c15ul + 1) % 100;

	if (n < c->zero_percent)
		return CONTENT_ZERO;
	if (n < c->zero_percent + c->same_percent)
		return CONTENT_SAME;
	return n < c->zero_percent + c->same_percent + c->soft_percent ? CONTENT_SOFT : CONTENT_UNIQUE;
}

/* What a page's words come from. */
struct stream {
	u64 head[BODY], state;
	bool soft; /* SOFT_RUN words have one state */
};

static void stream_begin(struct stream *s, const struct content *c, u32 page, u32 generation)
{
	enum content_kind kind = content_kind(c, page);

	s->head[0] = MAGIC << 32 | page;
	s->head[1] = (u64)generation << 32 | kind;
	s->head[2] = kind == CONTENT_SAME ? SAME_SEED : c->seed;
	s->state = content_mix(s->head[0] ^ content_mix(s->head[1] ^ content_mix(s->head[2])));
	s->soft = kind == CONTENT_SOFT;
}

static inline bool word_good(u64 *at, u64 word, bool write)
{
	if (write)
		*at = word;
	return write || *at == word;
}

/*
 * The words of a page in order, the last being the sum of the others: written, or compared up to the first that
 * differs, whose number is returned (WORDS: none) and which *expected then is. Workloads spend most of their time here,
 * so that there is a loop of its own for each use.
 */
static inline __attribute__((always_inline)) u32 stream_words(const struct stream *s, u64 *word, bool write, u32 run,
							      u64 *expected)
{
	u64 state = s->state, sum = 0, w;
	u32 i = 0;

	for (; i < BODY; i++) {
		w = s->head[i];
		sum += w;
		if (!word_good(&word[i], w, write))
			goto differs;
	}
	for (; i < SUM; i++) {
		if (i % run == 0)
			state = state * 6364136223846793005ul + 1442695040888963407ul;
		w = state ^ state >> 29;
		sum += w;
		if (!word_good(&word[i], w, write))
			goto differs;
	}
	w = sum;
	if (word_good(&word[SUM], w, write))
		return WORDS;
differs:
	*expected = w;
	return i;
}

static void stream_write(const struct stream *s, u64 *word)
{
	u64 unused;

	if (s->soft)
		stream_words(s, word, true, SOFT_RUN, &unused);
	else
		stream_words(s, word, true, 1, &unused);
}

static u32 stream_compare(const struct stream *s, const u64 *word, u64 *expected)
{
	u64 *p = (u64 *)(uintptr_t)word; /* only read */

	return s->soft ? stream_words(s, p, false, SOFT_RUN, expected) : stream_words(s, p, false, 1, expected);
}

static bool is_zero(const struct content *c, u32 page, u32 generation)
{
	return content_kind(c, page) == CONTENT_ZERO && generation % 2 == 0;
}

void content_fill(const struct content *c, u32 page, u32 generation, void *p)
{
	struct stream s;
	u64 *word = p;

	if (is_zero(c, page, generation)) {
		memset(p, 0, PAGE_SIZE);
		return;
	}
	stream_begin(&s, c, page, generation);
	stream_write(&s, word);
}

/* Whose content is this? */
static const char *diagnose(const u64 *word, const struct stream *s, bool zero)
{
	u64 sum = 0;

	if (page_is_zero(word))
		return "zero page";
	for (u32 i = 0; i < SUM; i++)
		sum += word[i];
	if (word[0] >> 32 != MAGIC || sum != word[SUM])
		return "damaged";
	if (zero || word[0] != s->head[0])
		return "another page";
	return word[2] != s->head[2] ? "another VM's page" : "another generation";
}

bool content_check(const struct content *c, u32 page, u32 generation, const void *p, struct content_fault *f)
{
	bool zero = is_zero(c, page, generation);
	const u64 *word = p;
	u64 expected = 0;
	struct stream s;
	u32 i = 0;

	stream_begin(&s, c, page, generation);
	if (zero && page_is_zero(p))
		return true;
	if (!zero)
		i = stream_compare(&s, word, &expected);
	else
		while (i < WORDS && word[i] == 0)
			i++;
	if (i == WORDS)
		return true;
	*f = (struct content_fault){i * 8, word[i], expected, diagnose(word, &s, zero)};
	return false;
}

/* ---- pages of several threads -------------------------------------------- */

static u64 part_key(const struct content *c, const struct content_part *part, u32 generation)
{
	enum content_kind kind = content_kind(c, part->page);
	u64 seed = kind == CONTENT_UNIQUE ? c->seed : SAME_SEED;

	if (kind == CONTENT_ZERO && generation % 2 == 0)
		return 0;
	if (kind != CONTENT_UNIQUE)
		generation %= 2;
	return content_mix(seed ^ content_mix((u64)part->page << 32 | generation << 8 | part->thread)) | 1;
}

static u64 part_word(u64 key, u32 i)
{
	u64 x = key + i * 0x9e3779b97f4a7c15ul;

	return key ? (x ^ x >> 29) * 6364136223846793005ul : 0;
}

void content_fill_part(const struct content *c, const struct content_part *part, u32 generation, void *p)
{
	u64 key = part_key(c, part, generation), *word = p;

	for (u32 i = part->thread; i < WORDS; i += part->threads)
		WRITE_ONCE(word[i], part_word(key, i));
}

static const char *diagnose_part(const struct content *c, const struct content_part *part, u32 generation, u32 i,
				 u64 found)
{
	if (found == 0)
		return "zero word";
	for (u32 back = 1; back <= MIN(generation, 4u); back++)
		if (found == part_word(part_key(c, part, generation - back), i))
			return "an earlier generation";
	if (found == part_word(part_key(c, part, generation + 1), i))
		return "the next generation";
	return "another page, or damaged";
}

bool content_check_part(const struct content *c, const struct content_part *part, u32 generation, const void *p,
			struct content_fault *f)
{
	u64 key = part_key(c, part, generation), found;
	const u64 *word = p;

	for (u32 i = part->thread; i < WORDS; i += part->threads) {
		found = READ_ONCE(word[i]);
		if (found == part_word(key, i))
			continue;
		*f = (struct content_fault){i * 8, found, part_word(key, i),
					    diagnose_part(c, part, generation, i, found)};
		return false;
	}
	return true;
}
