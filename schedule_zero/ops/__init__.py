"""What runs beside the way of a job: events after the commit, supervision, upkeep, metrics, the registry file."""
