"""One verb a file: build the parts, call one function."""
