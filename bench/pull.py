"""Pulls one path over many connections and tells how long it took, as JSON.

The bytes are thrown away in the kernel (recv with MSG_TRUNC), so that the client costs next to nothing and the server
is what is measured. Argument, as JSON: port, path, connections, headers, and `seconds` (pull again and again; with
`perSecond` so many times a second as long as connections are free), `pathsFile` (instead of path: pull each line of it once, over all connections, and compare what comes with the digest in
the line, as clients do) or nothing (pull once, all connections at
the same moment, each after one GET of /v2/ on the same connection).
"""

import hashlib
import json
import select
import socket
import sys
import time

options = json.loads(sys.argv[1])
headers = "".join(f"{name}: {value}\r\n" for name, value in options["headers"].items())
scratch = bytearray(1 << 20)
view = memoryview(scratch)


def request_of(path):
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{options['port']}\r\n{headers}\r\n".encode()


class Pull:
    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", options["port"]))
        self.socket.setblocking(False)
        self.hash = None
        self.first_byte = None
        self.begin(request_of("/v2/"))

    def begin_checked(self, path):
        self.digest = path.rsplit("sha256:", 1)[1][:64]
        self.hash = hashlib.sha256()
        self.begin(request_of(path))

    def begin(self, request):
        self.head = b""
        self.remaining = None
        self.first_byte = None
        self.sent = time.perf_counter()
        self.socket.send(request)

    def read(self):
        """The number of bytes of the body that came; the answer is whole when `remaining` is 0."""
        if self.remaining is None:
            count = self.socket.recv_into(scratch, 65536)
            if count == 0:
                raise EOFError("closed before the headers")
            self.head += view[:count]
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return 0
            lines = self.head[:end].decode("latin1").split("\r\n")
            if lines[0].split(" ")[1] != "200":
                raise ValueError(lines[0])
            fields = dict(line.lower().split(": ", 1) for line in lines[1:])
            self.remaining = int(fields["content-length"])
            count = len(self.head) - end - 4
            if self.hash:
                self.hash.update(self.head[end + 4 :])
        else:
            flags = 0 if self.hash else socket.MSG_TRUNC
            count = self.socket.recv_into(scratch, min(self.remaining, len(scratch)), flags)
            if self.hash:
                self.hash.update(view[:count])
            if count == 0:
                raise EOFError("closed before the end")
        if count > 0 and self.first_byte is None:
            self.first_byte = time.perf_counter()
        self.remaining -= count
        return count


def drive(pulls, whole, until, wait=1):
    """Reads until `until` says so, which is asked every `wait` seconds; calls `whole` for each answer that has come."""
    poll = select.epoll()
    by_number = {}
    for pull in pulls:
        by_number[pull.socket.fileno()] = pull
        poll.register(pull.socket, select.EPOLLIN)
    total = 0
    while not until():
        for number, _ in poll.poll(wait):
            pull = by_number[number]
            total += pull.read()
            if pull.remaining == 0:
                whole(pull)
    poll.close()
    return total


def warm_up(pulls):
    left = set(pulls)
    drive(pulls, left.discard, lambda: not left)


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


paths_file = options.get("pathsFile")
paths = iter(open(paths_file).read().split()) if paths_file else None
request = None if paths_file else request_of(options["path"])
pulls = [Pull() for _ in range(options["connections"])]
warm_up(pulls)
done = []
cpu = time.process_time()
start = time.perf_counter()
for pull in pulls:
    if paths:
        pull.begin_checked(next(paths))
    elif not options.get("perSecond"):
        pull.begin(request)
if paths:
    left = set(pulls)

    def another(pull):
        done.append(time.perf_counter() - pull.sent)
        if pull.hash.hexdigest() != pull.digest:
            raise ValueError(f"other bytes than those of {pull.digest}")
        following = next(paths, None)
        if following:
            pull.begin_checked(following)
        else:
            left.discard(pull)

    total = drive(pulls, another, lambda: not left)
    first = []
elif options.get("perSecond"):
    free = list(pulls)
    begun = 0

    def freed(pull):
        done.append(time.perf_counter() - pull.sent)
        free.append(pull)

    def over():
        global begun
        passed = time.perf_counter() - start
        while free and begun < passed * options["perSecond"]:
            free.pop().begin(request)
            begun += 1
        return passed >= options["seconds"]

    total = drive(pulls, freed, over, 0.001)
    first = []
elif options.get("seconds"):
    deadline = start + options["seconds"]

    def again(pull):
        done.append(time.perf_counter() - pull.sent)
        pull.begin(request)

    total = drive(pulls, again, lambda: time.perf_counter() >= deadline)
    first = []
else:

    def ended(pull):
        done.append(time.perf_counter() - start)
        pull.socket.close()

    total = drive(pulls, ended, lambda: len(done) == len(pulls))
    first = [pull.first_byte - start for pull in pulls]
seconds = time.perf_counter() - start
print(
    json.dumps(
        {
            "bytes": total,
            "requests": len(done),
            "seconds": seconds,
            "clientCpuSeconds": time.process_time() - cpu,
            "p50Ms": percentile(done, 0.5) and percentile(done, 0.5) * 1000,
            "p99Ms": percentile(done, 0.99) and percentile(done, 0.99) * 1000,
            "firstByteMs": [value * 1000 for value in first],
        }
    )
)
