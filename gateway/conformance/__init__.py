"""`gateway conformance`: known bypasses, sent through a proxy, and what they came to.

`cases` is the list, as data; `place` fills it in for one installation; `sender` sends the bytes;
`upstream` is the application that tells what it saw; `verdict` judges; `suite` runs it all;
`report` says it, with `fixes`. The project's own tests run the same list.
"""
