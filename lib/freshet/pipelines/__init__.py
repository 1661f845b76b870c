"""The paths assembled: the only place where stages are put together and run."""
