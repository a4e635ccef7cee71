"""Packed data on disk (`packed`), batches out of it (`batches`), and the data sets that fill it."""
