"""Generates the parts of the documentation that describe types: `make docs` runs `python -m docs.generate`.

A generated page or section is a function without arguments that returns Markdown, with one line in
`docs/generate/contents.py`. A page is a whole file. A section replaces the text between its two markers, in
any page of docs/:

    <!-- generated: NAME -->
    <!-- end -->
"""
