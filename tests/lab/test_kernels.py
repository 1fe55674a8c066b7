"""Which packages make up a kernel, and where they are fetched from: on made-up lists."""

from __future__ import annotations

import pytest

from lab.errors import LabError
from lab.packages import Build, builds, parse_packages, pick, version_key
from lab.sources import Mirrors, choose_mirrors, parse_deb822, parse_one_line


def stanza(name: str, version: str, size: int = 30_000_000) -> str:
    return f"Package: {name}\nSource: linux\nVersion: {version}\nDepends: x\nSize: {size}\n"


LISTS = "\n".join(
    [
        stanza("linux-image-6.1.0-9-cloud-amd64", "6.1.27-1"),
        stanza("linux-image-6.1.0-10-cloud-amd64", "6.1.38-1"),
        stanza("linux-image-6.1.0-10-cloud-amd64", "6.1.37-1"),
        stanza("linux-image-6.1.0-9-cloud-amd64-dbg", "6.1.27-1"),
        stanza("linux-image-6.1.0-10-cloud-amd64-unsigned", "6.1.38-1"),
        stanza("linux-image-6.12-cloud-amd64", "6.12.9-1", 1500),
        stanza("linux-image-6.12.9+deb12-cloud-amd64", "6.12.9-1~deb12u1"),
        stanza("linux-image-6.12.9+deb13-cloud-amd64", "6.12.9-1"),
        stanza("linux-image-6.12.9+deb13-amd64", "6.12.9-1"),
        stanza("linux-image-7.0.3+deb13-cloud-amd64", "7.0.3-1~bpo13+1", 1900),
        stanza("linux-binary-7.0.3+deb13-cloud-amd64", "7.0.3-1~bpo13+1"),
        stanza("linux-image-7.2.1+deb13-cloud-amd64", "7.2.1-1", 1900),
        stanza("linux-binary-7.2.1+deb13-cloud-amd64", "7.2.1-1"),
        stanza("linux-modules-7.2.1+deb13-cloud-amd64", "7.2.1-1"),
        stanza("linux-base-7.2.1+deb13-cloud-amd64", "7.2.1-1"),
        stanza("linux-image-7.2.1+deb13-cloud-amd64-dbg", "7.2.1-1"),
        stanza("linux-headers-7.2.1+deb13-cloud-amd64", "7.2.1-1"),
        stanza("linux-headers-7.2.1+deb13-amd64", "7.2.1-1"),
        stanza("linux-headers-7.2.1+deb13-common", "7.2.1-1"),
        stanza("linux-headers-6.12.9+deb13-cloud-amd64", "6.12.9-1"),
        stanza("linux-headers-6.1.0-10-cloud-amd64", "6.1.38-1"),
        stanza("linux-headers-6.1.0-10-common", "6.1.37-1"),
        "Package: linux-image-9.9.9-cloud-amd64\nVersion: 9.9.9-1\n",
    ]
)


@pytest.fixture
def known() -> list[Build]:
    return builds(parse_packages(LISTS))


@pytest.mark.parametrize(
    ("wanted", "release"),
    [
        ("6.1", "6.1.0-10-cloud-amd64"),
        ("6.1.0-9", "6.1.0-9-cloud-amd64"),
        ("6.1.27", "6.1.0-9-cloud-amd64"),
        ("6.1.0-10-cloud-amd64", "6.1.0-10-cloud-amd64"),
        ("6.12", "6.12.9+deb13-cloud-amd64"),
        ("6.12.9+deb12", "6.12.9+deb12-cloud-amd64"),
        ("7.0", "7.0.3+deb13-cloud-amd64"),
        ("7.2.1", "7.2.1+deb13-cloud-amd64"),
    ],
)
def test_a_name_means_its_newest_build(known: list[Build], wanted: str, release: str) -> None:
    assert pick(known, wanted).release == release


def test_parts_of_a_kernel(known: list[Build]) -> None:
    def names(wanted: str) -> list[str]:
        return [p.exact.split("-7")[0].split("-6")[0] for p in pick(known, wanted).packages]

    assert names("6.12") == ["linux-image"]
    assert names("7.0") == ["linux-binary"]
    assert names("7.2") == ["linux-binary", "linux-modules", "linux-base"]


def test_headers_are_both_parts_of_one_version_or_none(known: list[Build]) -> None:
    assert [p.exact for p in pick(known, "7.2").headers] == [
        "linux-headers-7.2.1+deb13-cloud-amd64=7.2.1-1",
        "linux-headers-7.2.1+deb13-common=7.2.1-1",
    ]
    assert [pick(known, wanted).headers for wanted in ("6.1", "6.12", "7.0")] == [()] * 3


def test_debug_means_the_newest_that_has_it(known: list[Build]) -> None:
    assert pick(known, "6.1", debug=True).release == "6.1.0-9-cloud-amd64"
    with pytest.raises(LabError, match=r"no debug package of kernel 7\.0.*one of 6\.1, 7\.2"):
        pick(known, "7.0", debug=True)


@pytest.mark.parametrize("wanted", ["5.4", "7", "nonsense", "", "6.1.0-1", "7.2.1+deb1"])
def test_an_unknown_name_is_told_what_there_is(known: list[Build], wanted: str) -> None:
    if wanted == "7":
        assert pick(known, wanted).release.startswith("7.2")
        return
    with pytest.raises(LabError) as caught:
        pick(known, wanted)
    assert caught.value.remedy == "it carries 6.1, 6.12, 7.0, 7.2"
    assert repr(wanted) in caught.value.why


def test_versions_sort_as_debian_says() -> None:
    ordered = ["1~~", "1~", "1", "1a", "1+", "1.0-1", "1.0-1+b1", "1.0.9-1", "1.0.10-1", "1:0.1"]
    shuffled = ordered[::-1]
    assert sorted(shuffled, key=version_key) == ordered


ONE_LINE = """
# deb http://commented.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/docker.gpg] https://docker.example/linux/debian bookworm main
deb https://docker.example/linux/debian bookworm stable
deb cdrom:[disc]/ bookworm main
deb http://mirror.example/debian/ bookworm main contrib # a comment
deb http://mirror.example/debian-security bookworm-security main
"""  # noqa: E501

DEB822 = """Types: deb
URIs: https://third.example/apt
Suites: bookworm
Components: main
Signed-By: /etc/apt/keyrings/third.gpg

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no

# The real one
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: trixie
 trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def test_one_line_sources() -> None:
    expected = Mirrors("http://mirror.example/debian", "http://mirror.example/debian-security")
    assert choose_mirrors(parse_one_line(ONE_LINE)) == expected


def test_deb822_sources() -> None:
    # The security archive is not named: it lies beside the main one.
    expected = Mirrors("http://mirror.example/debian", "http://mirror.example/debian-security")
    assert choose_mirrors(parse_deb822(DEB822)) == expected
    assert [s.suites for s in parse_deb822(DEB822)][-1] == ("trixie", "trixie-updates")


def test_third_parties_are_no_mirrors() -> None:
    text = (
        "deb https://third.example/ubuntu noble main\ndeb https://other.example bookworm stable\n"
    )
    with pytest.raises(LabError, match="name no Debian mirror"):
        choose_mirrors(parse_one_line(text))


def test_error_lines_are_lines() -> None:
    error = LabError("two\nlines \x1b[31m", "tab\there")
    assert error.why == "two lines \\x1b[31m"
    assert error.remedy == "tab here"
