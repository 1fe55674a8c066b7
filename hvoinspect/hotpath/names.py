"""Names that stand for the same thing in two kernels.

Only what moved as a whole is here: a reader who compares two kernels should find the counts of one
piece of work in one row. What was split or rewritten is not; it is shown as being in one kernel
only, and the totals of its helper are what can be compared.
"""

from __future__ import annotations

FUNCTIONS = {
    # Up to 7.0 the work of zapping a range is in unmap_page_range(), called by unmap_single_vma().
    # "mm/memory: rename unmap_single_vma() to __zap_vma_range()" and "mm/memory: inline
    # unmap_page_range() into __zap_vma_range()" (both in 7.3, neither in 6.12) put it in one.
    "unmap_page_range": "__zap_vma_range",
    "unmap_single_vma": "__zap_vma_range",
    # Both functions are in 6.12 and in 7.3 (mm/gup.c), and the second calls the first; compilers
    # leave the first a function of its own in Debian's 6.12, and inline it in its 7.3.
    "try_get_folio": "try_grab_folio_fast",
}
"""Function -> the function that holds its work in later kernels."""

HELPERS = {
    # 28266ac94a50 "mm: make ref_unless functions unless_zero only" (7.1): the only value that they
    # were ever given went into the name.
    "page_ref_add_unless": "page_ref_add_unless_zero",
    "folio_ref_add_unless": "folio_ref_add_unless_zero",
}
"""Helper -> its name in later kernels."""


def source_name(symbol: str) -> str:
    """Return the name that a function has in the source.

    C has no dots in names: what follows one was added by the compiler to a copy or a piece of the
    function (GCC: .isra.0, .part.0, .constprop.0, .cold; Clang: .llvm.NUMBER).
    """
    return symbol.partition(".")[0] or symbol


def function_key(symbol: str) -> str:
    """Return the name under which `symbol` is looked for in another kernel."""
    name = source_name(symbol)
    return FUNCTIONS.get(name, name)


def helper_key(helper: str) -> str:
    """Return the name under which `helper` is looked for in another kernel."""
    return HELPERS.get(helper, helper)
