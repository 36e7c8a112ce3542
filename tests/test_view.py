"""sid2 view from outside, without a browser: what it answers, whom it refuses, how it ends.  test_view.py SID2"""
import http.client, json, os, random, shlex, socket, subprocess, sys, tempfile, time
from view_support import View, events

sid2 = os.path.abspath(sys.argv[1])
checkpoint = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../checkpoints/fashion-mnist')
folder = tempfile.TemporaryDirectory()
os.chdir(folder.name)
os.symlink(checkpoint, "it's a model")
wish = {'seed': '7', 'class': '3', 'steps': '5', 'guidance': '2', 'sampler': 'ddim'}


def ask(view, path, method='GET', body=None, host=None, **headers):
    connection = http.client.HTTPConnection('127.0.0.1', view.port, timeout=60)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    if host != '':
        connection.putheader('Host', host or view.host)
    if body is not None:
        connection.putheader('Content-Length', str(len(body)))
    for name, value in headers.items():
        connection.putheader(name.replace('_', '-'), value)
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, answer.read(), answer


def sample(view, **changes):
    settings = {**wish, **changes}
    status, data, _ = ask(view, view.path + 'sample', 'POST', json.dumps(settings).encode(), Content_Type='application/json')
    assert status == 200, (status, data)
    return events(data)


def refused(code, view, *arguments, **named):
    status, data, _ = ask(view, *arguments, **named)
    assert status == code and b'<' not in data, (status, data)


def raw(view, data):
    """What comes back for bytes that need be no request."""
    with socket.create_connection(('127.0.0.1', view.port), timeout=10) as s:
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            return s.recv(65536)
        except OSError:
            return b''


with View(sid2, "it's a model", '--set', 'sample.interval=always') as view:
    # The page, all of it from here, and what keeps a browser from doing more.
    status, page, answer = ask(view, view.path)
    assert status == 200 and b'<!doctype html>' in page
    policy = answer.getheader('Content-Security-Policy')
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and 'unsafe' not in policy
    assert answer.getheader('Referrer-Policy') == 'no-referrer' and answer.getheader('X-Content-Type-Options') == 'nosniff'
    for part in 'view.css', 'view.js':
        assert part.encode() in page
        status, text, _ = ask(view, view.path + part)
        assert status == 200 and b'http' not in text and b'@import' not in text, part
    assert b'http' not in page
    model = json.loads(ask(view, view.path + 'model')[1])
    assert model['model'] == "it's a model" and len(model['classes']) == 10 and model['steps'] == '16', model

    # A picture: every step once and in order, then the end, which the command makes again to the byte.
    found = sample(view)
    steps = [event['step'] for event, png in found if 'step' in event]
    assert steps and steps == sorted(set(steps)) and all(png[1:4] == b'PNG' for event, png in found if 'step' in event)
    last, png = found[-1]
    assert last['file'] == '000007.png' and 'seed 7' in last['caption']
    command = shlex.split(last['command'])
    assert command[:2] == ['sid2', 'sample'] and command[2] == "it's a model"
    subprocess.run([sid2, *command[1:]], check=True, capture_output=True)
    assert open('000007.png', 'rb').read() == png, 'the command makes another picture'
    assert sample(view)[-1][1] == png
    assert '--sampler' not in sample(view, sampler='')[-1][0]['command'], 'the last wish counts for the next'
    assert sample(view, seed='18446744073709551615', **{'class': ''})[-1][0]['file'] == '18446744073709551615.png'

    # What cannot be is said, and the next is served.
    for changes, what in (({'steps': '0'}, 'sample.steps'), ({'sampler': 'x'}, 'sample.sampler'), ({'seed': '-1'}, 'negative'),
                          ({'class': '10'}, 'class'), ({'seed': '18446744073709551616'}, '2^64'), ({'guidance': 'nan'}, 'guidance')):
        found = sample(view, **changes)
        assert what in found[-1][0]['error'], (changes, found)

    # Who does not know the address, or comes from another page.
    refused(404, view, '/')
    refused(404, view, '/view.css')
    refused(404, view, view.path[:-2] + ('1' if view.path[-2] == '0' else '0') + '/')
    refused(404, view, view.path + '../../etc/passwd')
    refused(404, view, view.path + 'x')
    refused(404, view, view.path + 'model', 'POST', b'')
    refused(403, view, view.path, host='sid2.example')
    refused(403, view, view.path, host='127.0.0.1:1')
    refused(403, view, view.path, host='')
    refused(403, view, view.path, Origin='http://sid2.example')
    refused(403, view, view.path, Origin='null')
    refused(403, view, view.path, Sec_Fetch_Site='cross-site')
    assert ask(view, view.path, host=f'localhost:{view.port}', Origin=f'http://localhost:{view.port}')[0] == 200
    refused(405, view, view.path, 'PUT', b'')
    body = json.dumps(wish).encode()
    refused(415, view, view.path + 'sample', 'POST', body, Content_Type='text/plain')
    refused(413, view, view.path + 'sample', 'POST', b' ' * 100000, Content_Type='application/json')
    for bad in b'', b'{', b'[]', b'{"seed": 1}', b'\0' * 100, b'[' * 4000, b'{"seed": "\xff"}':
        refused(400, view, view.path + 'sample', 'POST', bad, Content_Type='application/json')

    # Bytes that are no requests, and requests without end.
    random.seed(1)
    for bytes_ in (b'', b'\r\n' * 1000, b'GET ' + b'/' * 200000, b'GET / HTTP/1.1\r\n' + b'X: y\r\n' * 50000, b'GET / HTTP/9.9\r\n\r\n',
                   b'POST ' + view.path.encode() + b'sample HTTP/1.1\r\nHost: ' + view.host.encode() +
                   b'\r\nContent-Type: application/json\r\nContent-Length: 99999999999999999999\r\n\r\n{',
                   *(random.randbytes(2000) for _ in range(20))):
        raw(view, bytes_)
    held = [socket.create_connection(('127.0.0.1', view.port)) for _ in range(100)]  # more than are served
    for s in held:
        s.close()
    time.sleep(0.5)
    assert sample(view)[-1][1] == png

    # One that goes away takes its picture with it; too many are told so.
    def leave():
        s = socket.create_connection(('127.0.0.1', view.port))
        text = json.dumps({**wish, 'steps': '10000'})
        s.sendall(f'POST {view.path}sample HTTP/1.1\r\nHost: {view.host}\r\nContent-Type: application/json\r\n'
                  f'Content-Length: {len(text)}\r\n\r\n{text}'.encode())
        return s
    s = leave()
    assert b'200 OK' in s.recv(4096)
    s.close()
    began = time.monotonic()
    assert sample(view)[-1][1] == png and time.monotonic() - began < 30
    held, statuses = [leave() for _ in range(24)], []
    for s in held:
        s.settimeout(20)
        try:
            statuses.append(s.recv(4096).split(b' ')[1])
        except (TimeoutError, IndexError):
            statuses.append(b'')
    assert b'503' in statuses and b'200' in statuses, statuses
    for s in held:
        s.close()
    for _ in range(100):  # until it has noticed
        if ask(view, view.path + 'sample', 'POST', body, Content_Type='application/json')[0] == 200:
            break
        time.sleep(0.2)
    assert sample(view)[-1][1] == png

    # Nobody else has the port, nothing but the loopback address is listened on.
    other = subprocess.run([sid2, 'view', checkpoint, '--device', 'cpu', '--port', str(view.port)], capture_output=True, text=True)
    assert other.returncode == 1 and f'port {view.port} of 127.0.0.1' in other.stderr and other.stderr.count('\n') == 1, other
    listening = open('/proc/net/tcp').read() + (open('/proc/net/tcp6').read() if os.path.exists('/proc/net/tcp6') else '')
    port = f':{view.port:04X} '
    assert {line.split()[1] for line in listening.splitlines() if port in line.split(' 0A ')[0] and ' 0A ' in line} == {f'0100007F:{view.port:04X}'}

    # Ctrl-C in the middle of a picture.
    s = leave()
    assert b'200 OK' in s.recv(4096)
    assert view.end() == 0 and 'sid2 view:' not in view.process.stderr.read()
    s.close()

for arguments, code, what in ((['nowhere'], 1, 'nowhere'), ([], 2, 'CHECKPOINT is missing'), ([checkpoint, '--port', '70000'], 2, 'port')):
    got = subprocess.run([sid2, 'view', *arguments], capture_output=True, text=True)
    assert got.returncode == code and what in got.stderr and got.stderr.count('\n') == 1, got
