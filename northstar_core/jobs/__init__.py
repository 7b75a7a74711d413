"""Strategy notebooks, run without a person in front of them.

``notebook`` reads cells by tag, ``parameters`` checks what is given to them, ``engine`` executes them with papermill in
a kernel of their own (``kernel``), ``redaction`` keeps secrets out of what is kept, ``provenance`` says what ran, and
``report`` turns the executed notebook into one HTML file. Nothing heavy is imported before it is used.
"""
