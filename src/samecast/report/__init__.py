"""Reports: labelled grids and self-contained pages."""
