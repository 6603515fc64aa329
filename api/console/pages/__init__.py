"""One module for each group of pages; its templates are in the folder of the same name."""
