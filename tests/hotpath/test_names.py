"""Names that stand for the same thing in two kernels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvoinspect.hotpath.names import FUNCTIONS, HELPERS, function_key, helper_key, source_name


@pytest.mark.parametrize(
    "symbol",
    [
        "kfree",
        "kfree.part.0",
        "kfree.isra.0.cold",
        "kfree.constprop.0.isra.0",
        "kfree.cold",
        "kfree.llvm.1234567890",
    ],
)
def test_what_a_compiler_adds_is_left_out(symbol: str) -> None:
    assert source_name(symbol) == "kfree"


def test_a_function_is_found_under_the_name_it_has_later() -> None:
    assert function_key("unmap_page_range.part.0") == function_key("__zap_vma_range")
    assert function_key("unmap_page_range") != function_key("zap_pte_range")


def test_a_helper_is_found_under_the_name_it_has_later() -> None:
    assert helper_key("page_ref_add_unless") == helper_key("page_ref_add_unless_zero")
    assert helper_key("_compound_head") == "_compound_head"


@given(st.sampled_from([*FUNCTIONS, *FUNCTIONS.values()]) | st.text(min_size=1))
def test_a_later_name_stays(name: str) -> None:
    """Or two kernels that both have it would not meet."""
    assert function_key(function_key(name)) == function_key(name) != ""


@pytest.mark.parametrize("name", [*HELPERS, *HELPERS.values()])
def test_a_later_helper_stays(name: str) -> None:
    assert helper_key(helper_key(name)) == helper_key(name)
