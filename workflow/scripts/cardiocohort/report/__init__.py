"""What came out of a cohort, for people: manifest, figures, page. Owned by the report stage."""
