"""Looking into programs: what they do, what they keep, and where the time goes."""
