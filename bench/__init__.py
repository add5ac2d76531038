"""Commands that print the figures the documents quote: `python -m bench.NAME`, both sides in one run, interleaved."""
