"""Background work over records: what is kept true when nobody asks for anything."""
