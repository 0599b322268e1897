"""The shipped proxy configurations, run on the real proxies in front of the real gateway."""
