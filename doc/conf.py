# SPDX-License-Identifier: BSD-3-Clause
"""Sphinx configuration of the guides: sphinx-build doc build/doc/html."""

project = "vhub"
author = "The vhub authors"
root_doc = "index"
exclude_patterns = []
html_theme = "alabaster"
html_theme_options = {"description": "vhost-user back end on DPDK"}
