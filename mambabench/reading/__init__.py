"""Guarded readers of what users bring: audio, tables, JSON, arrays and TOML, each in one place.

Every reader answers a bad file with one error that names the file, the line or field, and the
remedy; none of them lets a decoder's own exception through.
"""
