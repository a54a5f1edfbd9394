"""The page: files, jobs, curves and answers in a browser, through the public API alone."""
