"""Search by sketch in anybody's photos: a gallery, what a sketch finds in it, and masks for all of it."""
