"""A sid2 view that runs while a test does."""
import json, re, signal, struct, subprocess, urllib.parse


class View:
    def __init__(self, sid2, checkpoint, *options):
        self.process = subprocess.Popen([sid2, 'view', checkpoint, '--device', 'cpu', '--threads', '2', *options],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        assert re.fullmatch(r'http://127\.0\.0\.1:\d+/[0-9a-f]{32}/', self.address), (self.address, self.process.stderr.read())
        parts = urllib.parse.urlsplit(self.address)
        self.host, self.port, self.path = parts.netloc, parts.port, parts.path

    def end(self, number=signal.SIGINT):
        """Its exit code."""
        self.process.send_signal(number)
        return self.process.wait(20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def events(data):
    """What an answer to a wish holds: objects and PNGs, without the empty ones."""
    found = []
    while data:
        parts = []
        for _ in range(2):
            size, = struct.unpack('>I', data[:4])
            assert len(data) >= 4 + size, 'an event is cut short'
            parts.append(data[4:4 + size])
            data = data[4 + size:]
        if parts[0]:
            found.append((json.loads(parts[0]), parts[1]))
    return found
