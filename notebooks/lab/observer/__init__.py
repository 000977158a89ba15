"""Stamps what a watched app does, inside its process; knows of no trace, client or figure.

It imports the standard library alone, and what the app itself has brought is looked up. So it can
be loaded into any environment, from CPython 3.9 on, under whatever name.
"""
