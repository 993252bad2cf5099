"""The configuration: its schema, its loading, and the changes allowed on resume. Imports no torch."""
