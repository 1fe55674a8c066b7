"""The helpers whose copies are looked for: a table, so that a kernel's new one is a new line.

All are `static inline` or `__always_inline` in the kernel's headers, so that no symbol can be
probed; DWARF knows their copies by these names.
"""

from __future__ import annotations

HELPERS = {
    # include/linux/page-flags.h: from a struct page to its head.
    "_compound_head": "what compound_head() and page_folio() are; in all kernels. Reads a pointer "
    "up to 7.0, from 7.1 on a mask (8c846c879e22), without a branch (66b2a3d9ae46)",
    "page_fixed_fake_head": "the test for a fake head in _compound_head; came with HVO's second "
    "page (e7d324850bfc, 5.18), gone with fake heads (622026e87c40, 7.1)",
    "page_is_fake_head": "the same test in PageHead and PageTail; gone with fake heads "
    "(622026e87c40, 7.1)",
    # include/linux/page_ref.h and mm.h: a reference unless there is none, on the head it found.
    "page_ref_add_unless": "a reference that a racing HVO must not let be written into a shared "
    "tail; until 28266ac94a50 (7.1)",
    "page_ref_add_unless_zero": "its name since 28266ac94a50 (7.1)",
    "folio_ref_add_unless": "the same for a folio; until 28266ac94a50 (7.1)",
    "folio_ref_add_unless_zero": "its name since 28266ac94a50 (7.1)",
    "folio_ref_try_add": "several references at once, for GUP; in 6.12 and 7.3",
    "folio_try_get": "one reference to a folio, for lockless look-ups in the page cache; in all",
    "get_page_unless_zero": "one reference to a page, for those who walk pfns; in all",
    "try_get_page": "one reference to a page's head unless it overflows, for pipes; in all",
}
"""Helper -> why it is of interest, and what in the kernel's history made or removed it."""
