"""Things that stand on the table, one file per kind."""
