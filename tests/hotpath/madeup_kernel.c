/*
 * A made-up kernel for tests: each function says how many copies it gets. What a copy reads is
 * volatile, so that no compiler puts two into one.
 */

struct page {
	volatile unsigned long flags, info;
	volatile int refs;
};

#define always_inline static inline __attribute__((always_inline))
#define noinline __attribute__((__noinline__))
#define rare __attribute__((__noinline__, __cold__))
#define unlikely(x) __builtin_expect(!!(x), 0)

const char linux_banner[] = "Linux version 6.0.0-made-up (nobody) #1";

always_inline unsigned long _compound_head(const struct page *page)
{
	unsigned long info = page->info;

	return info & 1 ? info - 1 : (unsigned long)page;
}

/* A copy of _compound_head in each copy of this. */
always_inline int page_ref_add_unless(struct page *page)
{
	struct page *head = (struct page *)_compound_head(page);

	return head->refs ? ++head->refs : 0;
}

always_inline int folio_try_get(struct page *page)
{
	return page_ref_add_unless(page);
}

/* Inlined where that is good, with a body of its own for `hook`. */
static inline int try_get_page(struct page *page)
{
	return page->refs++ > 0;
}

int (*volatile hook)(struct page *) = try_get_page;

/* No helper, whatever its name begins with. */
always_inline unsigned long _compound_head_of_none(struct page *page)
{
	return page->flags;
}

volatile unsigned long told;

extern const char __start___jump_table[], __stop___jump_table[];
const char *const jump_table[] = { __start___jump_table, __stop___jump_table };

/* A static key: a no-op, which a table says may become a jump. */
always_inline int is_switched_on(void)
{
	asm goto("0: .byte 0x0f, 0x1f, 0x44, 0, 0\n\t"
		 ".pushsection __jump_table, \"aw\"\n\t"
		 ".long 0b - .\n\t.long %l[on] - .\n\t.quad told - .\n\t"
		 ".popsection" : : : : on);
	return 0;
on:
	return 1;
}

/* The linker puts it first. */
__attribute__((section(".text.first"))) void _stext(void)
{
	told = 1;
}

rare void warn(struct page *page)
{
	told = page->flags;
}

noinline unsigned long none(struct page *page)
{
	return _compound_head_of_none(page);
}

/* One copy, in no loop. */
noinline unsigned long once(struct page *page)
{
	return _compound_head(page);
}

/* Two copies. */
noinline unsigned long twice(struct page *a, struct page *b)
{
	return _compound_head(a) + 3 * _compound_head(b);
}

/* One copy in a loop, one before it. */
noinline unsigned long looped(struct page **pages, long count)
{
	unsigned long sum = _compound_head(pages[0]);

	for (long i = 0; i < count; i++)
		sum += 3 * _compound_head(pages[i]);
	return sum;
}

/* One copy, which code at the end jumps back to or over, but only once a call. */
noinline unsigned long rejoined(struct page *page)
{
	unsigned long sum = page->flags;

	if (unlikely(page->refs))
		for (int i = 0; i < 3; i++)
			told = sum += page->flags;
	return sum + _compound_head(page);
}

/* One copy in rejected.cold, in no loop. */
noinline unsigned long rejected(struct page *page)
{
	if (unlikely(page->flags)) {
		warn(page);
		return _compound_head(page);
	}
	return 0;
}

/* One copy in retried.cold, in a loop that goes through both pieces. */
noinline unsigned long retried(struct page **pages, long count)
{
	unsigned long sum = 0;

	for (long i = 0; i < count; i++) {
		sum += pages[i]->flags;
		if (unlikely(pages[i]->refs)) {
			warn(pages[i]);
			sum += _compound_head(pages[i]);
		}
	}
	return sum;
}

/* One copy, in a loop that only a static key closes. */
noinline unsigned long keyed(struct page *page)
{
	unsigned long sum = 0;

	do
		sum += _compound_head(page);
	while (is_switched_on());
	return sum;
}

/* One copy of each of three, one in the other. */
noinline int referenced(struct page *page)
{
	return folio_try_get(page);
}

/* One copy beside the body. */
noinline int tried(struct page *page)
{
	return try_get_page(page) + hook(page);
}
