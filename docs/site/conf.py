"""The documentation as a site: `scripts/docs` builds it.

The source folder is the project's, so that a link leads to the same file here as on a git host.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
sys.path[:0] = [str(PROJECT), str(HERE)]

from hvoinspect.version import __version__  # noqa: E402 - of this tree, not of what is installed

project = "hvoinspect"
release = __version__
extensions = ["myst_parser", "sphinx_click", "start_page", "help_text", "folders"]

root_doc = "README"
include_patterns = ["README.md", "CHANGELOG.md", "docs/*.md", "docs/site/commands.rst"]
# Folders without a page: they may be large, and would be searched for pages.
exclude_patterns = [path.name for path in PROJECT.iterdir() if path.is_dir()]
exclude_patterns.remove(HERE.parent.name)

myst_heading_anchors = 6  # of all headings, as a git host has them
highlight_language = "text"
smartquotes = False  # would make one dash of the two before an option

html_theme = "furo"
# So small that what is 85 columns wide need not be scrolled.
html_theme_options = {"light_css_variables": {"code-font-size": "var(--font-size--small--3)"}}
html_static_path = html_css_files = ["style.css"]
html_title = f"hvoinspect {release}"
html_copy_source = False
html_show_copyright = False
html_use_index = False
