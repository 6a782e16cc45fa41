"""Features of a folder of images, by any number of processes, into a store."""
