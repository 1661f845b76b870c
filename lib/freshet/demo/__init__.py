"""A planted world whose truth is known, and the event files it leaves behind."""
