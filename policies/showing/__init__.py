"""Recorded episodes as pictures and films for people."""
