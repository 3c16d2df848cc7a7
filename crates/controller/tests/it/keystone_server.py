"""Serves Debian's Keystone over TLS on loopback for one test: its public WSGI application behind the server of Python's library.

Arguments: keystone.conf, a PEM file with key and certificate, a port (0: any). Prints the port when it listens.
"""
import os
import sqlite3
import ssl
import sys
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

config, certificate, port = sys.argv[1:]
os.environ["OS_KEYSTONE_CONFIG_FILES"] = config
sys.argv = sys.argv[:1]
# Keystone writes while it still reads by another connection, which SQLite takes only so.
sqlite3.connect(os.path.join(os.path.dirname(config), "keystone.db")).execute("PRAGMA journal_mode=WAL")

from keystone.server import wsgi  # noqa: E402  (reads the environment)


class Handler(WSGIRequestHandler):
    # One connection at a time: none may keep the others waiting.
    timeout = 5

    def log_message(self, *_):
        pass


server = make_server("127.0.0.1", int(port), wsgi.initialize_public_application(), WSGIServer, Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate)
# The handshake is under the handler's timeout too.
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_port, flush=True)
server.serve_forever()
