"""Delta only: tables, the commit protocol, state by path, locks, maintenance. The one layer that writes tables."""
