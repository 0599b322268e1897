"""All parts on one machine, to try: `make demo`."""
