"""The whole process: how it starts, what it does when Redis goes, how it stops."""
