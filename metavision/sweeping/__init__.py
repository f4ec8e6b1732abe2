"""Many runs from one command: where their record is, searches, and what runs them in parallel."""
