//! Findings about a template beyond its validity, and how they are shown.
