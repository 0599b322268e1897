"""One module for each way in which proxies ask; each has two functions, `read` and `write`.

To add a proxy: write its module, name it in `listener.ADAPTERS`, give the suite its cases.
"""
