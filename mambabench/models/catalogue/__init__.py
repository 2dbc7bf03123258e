"""One light module per family of encoders; each declares ``ENTRIES``, a tuple of EncoderEntry.

The registry imports every module of this folder, so a new encoder is one new file here and no
other edit: the entry's `loader` may live in the same file, as long as torch is imported inside it.
"""
