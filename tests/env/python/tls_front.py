"""TLS before a server that has none.

    tls_front.py CERTIFICATE KEY HOST:PORT

Prints the port at which it listens, and ends when its standard input does.
"""

import os
import socket
import ssl
import sys
import threading


def pass_on(source, to):
    try:
        while part := source.recv(1 << 16):
            to.sendall(part)
        to.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(client, context, host, port):
    try:
        client = context.wrap_socket(client, server_side=True)
        server = socket.create_connection((host, port))
    except OSError:
        # Whoever does not trust the certificate goes away.
        return
    threading.Thread(target=pass_on, args=(server, client), daemon=True).start()
    pass_on(client, server)


def main():
    certificate, key, target = sys.argv[1:]
    host, port = target.rsplit(":", 1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client, context, host, int(port)), daemon=True).start()


if __name__ == "__main__":
    main()
