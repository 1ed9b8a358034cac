"""The test bed's other subject: a bare APScheduler with one of its stock stores, a process for each scenario."""
