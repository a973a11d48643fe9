from importlib.metadata import version as installed_version

project = "Triggers"
author = "Triggers contributors"
project_copyright = "2026, Triggers contributors"
release = installed_version("triggers-core")
version = ".".join(release.split(".")[:2])

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "Triggers"
