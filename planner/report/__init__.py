"""Answers for people: `tables` rows of text, `charts` pictures. Everything is returned, nothing is printed."""
