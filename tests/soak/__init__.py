"""A long run of real processes on a clock that goes fast: is anything growing that should not?"""
