"""Serves Keystone: identity.py PORT, with its configuration in OS_KEYSTONE_CONFIG_FILES.

waitress, because it is pure Python (uwsgi is compiled at each installation) and keeps connections alive well.
"""

import sys


def main():
    listen = f"127.0.0.1:{sys.argv.pop()}"
    # It takes the program's arguments for its own, which is why this isn't waitress-serve.
    from keystone.wsgi.api import application
    from waitress import serve

    serve(application, listen=listen)


if __name__ == "__main__":
    main()
