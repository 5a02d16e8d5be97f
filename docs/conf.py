"""How Sphinx builds these pages: ``make docs``."""

import logging
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# The cells of a page import pictures.py.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
os.environ["JUPYTER_PATH"] = str(HERE)  # kernels/quiet
logging.getLogger("traitlets").setLevel(logging.WARNING)

import feasible  # noqa: E402

project = "feasible"
author = "The feasible developers"
version = release = feasible.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["build"]
html_theme = "furo"
html_title = f"feasible {version}"
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["wide.css"]
toc_object_entries = False
add_module_names = False

myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
nitpicky = True
nitpick_ignore_regex = [
    (
        "py:class",
        r"(torch|collections|feasible|os)\.[\w.]+|Tensor|Rivals|Scale|Value",
    ),  # types that have no page here
    ("py:obj", r"typing\.Literal\[.*"),
]


def setup(app):
    """Reference pages follow from the code, and are written before Sphinx looks for pages."""
    from pages import write_pages

    app.connect("builder-inited", lambda app: write_pages())
    app.connect("autodoc-process-docstring", keep_colons, priority=400)


def keep_colons(app, what, name, obj, options, lines):
    """An empty comment first, without which napoleon reads “Largest distance: of …” as a type and its description."""
    if what in ("attribute", "property"):
        lines[:0] = ["..", ""]
