"""How Sphinx builds these pages: ``make docs``."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# The cells of a page import pictures.py.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # the kernel's debugger would print a remark

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
nitpick_ignore_regex = [("py:.*", ".*")]


def setup(app):
    """Reference pages follow from the code, and are written before Sphinx looks for pages."""
    from pages import write_pages

    app.connect("builder-inited", lambda app: write_pages())
