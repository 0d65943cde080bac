"""What a person looks at: labelled grids and self-contained pages."""
