"""Answers of the admin API as tables and lines for people. Data in, text out: no file here prints."""
