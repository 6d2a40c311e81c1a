/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pollers that are left alone because nothing comes for them. Called by lcore.c in each turn.
 *
 * Whoever brings something to such a poller changes a word of memory. The words of all of them stand
 * in one array, with what was in them last, so a look at many costs little: no device is touched, and
 * of a guest's memory one line. Who changed is polled again from that turn on.
 *
 * With others that are polled, the looks take a share of the lcore's time, whatever their number: a
 * small one while there is work, a larger one else. What they cost is measured; what they cost others,
 * whose lines they drive out of the caches, comes on top.
 *
 * A word may lie in a guest's memory. It leaves the array before that memory goes away, in the same
 * way as the poller itself would leave the lcore: by an operation that runs between two turns.
 */
#include <rte_branch_prediction.h>
#include <rte_cycles.h>

#include "lcore_pvt.h"

/* Words looked at in one go. */
#define PARK_SLICE 16u
/* Share of the time that the looks take, as a shift: in a lcore with work, in one that waits. */
#define PARK_SHARE_WORK 8
#define PARK_SHARE_WAIT 3
/* A round of looks at all words takes no longer than this while an lcore takes its turns, however many they are. */
#define PARK_ROUND_US 500u
/* No slice takes longer by itself: something else has had the CPU. */
#define PARK_SLICE_MAX_NS 1000u

/* ---- lists ---- */

static void
pollers_init(struct poller_list *list)
{
	list->first = NULL;
	list->tail = &list->first;
}

void
pollers_append(struct poller_list *list, struct vhub_poller *poller)
{
	poller->next = NULL;
	poller->link = list->tail;
	*list->tail = poller;
	list->tail = &poller->next;
}

void
pollers_remove(struct poller_list *list, struct vhub_poller *poller)
{
	*poller->link = poller->next;
	if (poller->next != NULL)
		poller->next->link = poller->link;
	else
		list->tail = poller->link;
}

/* ---- words ---- */

/* Slices are closer together the more words there are. */
static void
count_words(struct vhub_lcore *lcore, uint32_t n)
{
	lcore->n_words = n;
	lcore->slice_cycles = n == 0 ? 0 : lcore->round_cycles * PARK_SLICE / n;
}

static void
add_word(struct vhub_lcore *lcore, struct vhub_poller *poller, const struct vhub_lcore_word *word)
{
	lcore->words[lcore->n_words] = *word;
	lcore->word_pollers[lcore->n_words] = poller;
	count_words(lcore, lcore->n_words + 1);
	poller->word_1 = lcore->n_words;
}

/* The last one takes its place. */
static void
remove_word(struct vhub_lcore *lcore, struct vhub_poller *poller)
{
	const uint32_t at = poller->word_1 - 1, last = lcore->n_words - 1;

	count_words(lcore, last);
	lcore->words[at] = lcore->words[last];
	lcore->word_pollers[at] = lcore->word_pollers[last];
	lcore->word_pollers[at]->word_1 = at + 1;
	poller->word_1 = 0;
}

static void
count_parked(struct vhub_lcore *lcore, int n)
{
	__atomic_store_n(&lcore->n_parked, lcore->n_parked + (unsigned int)n, __ATOMIC_RELAXED);
}

void
park_poller(struct vhub_lcore *lcore, struct vhub_poller *poller)
{
	struct vhub_lcore_word word = { 0 };

	poller->work_tsc = lcore->turn_tsc; /* or asked again so much later */
	if (poller->ops->park == NULL || lcore->n_words == PARK_MAX_WORDS ||
			!poller->ops->park(poller, &word))
		return;
	pollers_remove(&lcore->polled, poller);
	pollers_append(&lcore->parked, poller);
	poller->is_parked = true;
	count_parked(lcore, 1);
	if (word.at != NULL)
		add_word(lcore, poller, &word);
}

void
park_forget(struct vhub_lcore *lcore, struct vhub_poller *poller)
{
	pollers_remove(&lcore->parked, poller);
	poller->is_parked = false;
	count_parked(lcore, -1);
	if (poller->word_1 != 0)
		remove_word(lcore, poller);
}

void
park_resume(struct vhub_lcore *lcore, struct vhub_poller *poller)
{
	park_forget(lcore, poller);
	poller->work_tsc = lcore->turn_tsc;
	pollers_append(&lcore->polled, poller);
	if (poller->ops->resume != NULL)
		poller->ops->resume(poller);
}

void
park_resume_all(struct vhub_lcore *lcore)
{
	struct vhub_poller *poller, *next;

	/* Pairs with vhub_lcore_resume_all(). Cleared first: what is left meanwhile sets it again. */
	__atomic_exchange_n(&lcore->resume_all, 0, __ATOMIC_ACQUIRE);
	for (poller = lcore->parked.first; poller != NULL; poller = next) {
		next = poller->next;
		if (poller->ops->is_meant == NULL || poller->ops->is_meant(poller))
			park_resume(lcore, poller);
	}
}

/* ---- looks ---- */

static inline bool
has_changed(const struct vhub_lcore_word *word)
{
	/* Relaxed: the poll that follows loads with acquire what it takes. */
	return (__atomic_load_n(word->at, __ATOMIC_RELAXED) & word->mask) != word->seen;
}

/* The next `n` words, from where the last look ended. */
static void
look_at(struct vhub_lcore *lcore, uint32_t n)
{
	uint32_t at = lcore->next_word;

	for (; n != 0; n--) {
		if (at >= lcore->n_words)
			at = 0;
		if (likely(!has_changed(&lcore->words[at]))) {
			at++;
			continue;
		}
		/* Another word has its place then, or none. */
		park_resume(lcore, lcore->word_pollers[at]);
		if (lcore->n_words == 0)
			break;
	}
	lcore->next_word = at;
}

/* Between two slices. */
static uint64_t
pause_cycles(const struct vhub_lcore *lcore)
{
	const bool works = lcore->work_tsc == lcore->turn_tsc;
	const uint64_t share = lcore->look_cycles << (works ? PARK_SHARE_WORK : PARK_SHARE_WAIT);

	return RTE_MIN(share, lcore->slice_cycles);
}

bool
park_is_due(const struct vhub_lcore *lcore)
{
	return lcore->polled.first == NULL ||
			lcore->turn_tsc - lcore->look_tsc >= pause_cycles(lcore);
}

/* How many words make up for the time since the last look. */
static uint32_t
words_due(const struct vhub_lcore *lcore)
{
	const uint64_t pause = RTE_MAX(pause_cycles(lcore), 1u);
	uint64_t since = lcore->turn_tsc - lcore->look_tsc;
	uint32_t n = PARK_SLICE;

	for (; since >= 2 * pause && n < lcore->n_words; since -= pause)
		n += PARK_SLICE;
	return RTE_MIN(n, lcore->n_words);
}

void
park_look(struct vhub_lcore *lcore)
{
	uint64_t begin, took;
	uint32_t n;

	if (lcore->polled.first == NULL) {
		look_at(lcore, lcore->n_words);
		return;
	}
	n = words_due(lcore);
	begin = rte_rdtsc();
	look_at(lcore, n);
	lcore->look_tsc = rte_rdtsc();
	took = RTE_MIN(lcore->look_tsc - begin, lcore->look_max_cycles);
	/* An average, since one look may have been lucky. */
	if (n <= PARK_SLICE)
		lcore->look_cycles = (7 * lcore->look_cycles + took) / 8;
}

void
park_init(struct vhub_lcore *lcore)
{
	const uint64_t hz = rte_get_tsc_hz();

	pollers_init(&lcore->polled);
	pollers_init(&lcore->parked);
	lcore->park_cycles = hz / 1000000 * PARK_AFTER_US;
	lcore->round_cycles = hz / 1000000 * PARK_ROUND_US;
	lcore->look_max_cycles = hz / (1000000000 / PARK_SLICE_MAX_NS);
}
