"""What the notebooks claim of the committed rows, a test a sentence."""
