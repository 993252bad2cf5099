"""What can be configured: the schema, its loading, and what may change on resume. Imports no torch."""
