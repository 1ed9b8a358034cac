"""Reports of the test bed's runs: what stands in one, and two of them side by side. Pure but for reading and writing
the file: the test bed writes it, the server shows it, and knows nothing else of the test bed.
"""
