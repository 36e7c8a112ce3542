"""The page of sid2 view in a real browser, by keyboard alone: wide and narrow, light and dark. Where no chromium is installed it is
left out (77).  test_view_page.py SID2 [FOLDER for screenshots]"""
import base64, json, os, shlex, shutil, subprocess, sys, tempfile, time
from view_support import View

sid2 = os.path.abspath(sys.argv[1])
shots = os.path.abspath(sys.argv[2]) if len(sys.argv) > 2 else None
checkpoint = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../checkpoints/fashion-mnist')
program = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
if not program:
    print('no chromium here: the page was not looked at')
    sys.exit(77)
folder = tempfile.TemporaryDirectory()
os.chdir(folder.name)
os.symlink(checkpoint, 'model')
KEYS = {'Tab': 9, 'Enter': 13, 'Escape': 27, 'ArrowDown': 40, 'ArrowUp': 38}


class Browser:
    """Chromium without a window, told by its debugging protocol through two pipes: texts of JSON, a zero byte behind each."""

    def __init__(self):
        to_read, self.to = os.pipe()
        self.back, to_write = os.pipe()

        def lay():  # where it looks for them
            read, write = os.dup(to_read), os.dup(to_write)
            os.dup2(read, 3)
            os.dup2(write, 4)
        self.process = subprocess.Popen([program, '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
                                         '--remote-debugging-pipe', f'--user-data-dir={folder.name}/profile', 'about:blank'],
                                        preexec_fn=lay, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_write)
        self.buffer, self.number, self.session, self.problems = b'', 0, None, []
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self.session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in 'Page', 'Runtime', 'Log':
            self.call(domain + '.enable')

    def receive(self):
        while b'\0' not in self.buffer:
            more = os.read(self.back, 1 << 20)
            assert more, 'the browser has ended'
            self.buffer += more
        text, self.buffer = self.buffer.split(b'\0', 1)
        return json.loads(text)

    def call(self, method, **parameters):
        self.number += 1
        message = {'id': self.number, 'method': method, 'params': parameters}
        if self.session:
            message['sessionId'] = self.session
        os.write(self.to, json.dumps(message).encode() + b'\0')
        while True:
            answer = self.receive()
            if answer.get('method') in ('Runtime.exceptionThrown', 'Log.entryAdded'):
                self.problems.append(answer['params'])
            if answer.get('id') == self.number:
                assert 'error' not in answer, (method, answer)
                return answer['result']

    def value(self, expression):
        got = self.call('Runtime.evaluate', expression=expression, awaitPromise=True, returnByValue=True)
        assert 'exceptionDetails' not in got, (expression, got)
        return got['result'].get('value')

    def wait(self, expression, seconds=60):
        until = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < until, (expression, self.value("document.getElementById('status').textContent"), self.problems)
            time.sleep(0.05)

    def press(self, key, modifiers=0):
        text = {'Enter': '\r'}.get(key, '')
        common = dict(key=key, code=key, windowsVirtualKeyCode=KEYS[key], modifiers=modifiers)
        self.call('Input.dispatchKeyEvent', type='keyDown' if text else 'rawKeyDown', **common, **({'text': text} if text else {}))
        self.call('Input.dispatchKeyEvent', type='keyUp', **common)

    def type(self, text):
        for letter in text:
            self.call('Input.dispatchKeyEvent', type='keyDown', text=letter, key=letter)
            self.call('Input.dispatchKeyEvent', type='keyUp', key=letter)

    def focus(self):
        return self.value("document.activeElement.id || document.activeElement.className || document.activeElement.tagName")

    def go_to(self, name, modifiers=0):
        """Tab by Tab, as people do who have no mouse."""
        for _ in range(60):
            if self.focus() == name:
                return
            self.press('Tab', modifiers)
        raise AssertionError(f'the keyboard does not reach {name}')

    def fill(self, name, text, modifiers=0):
        self.go_to(name, modifiers)
        self.call('Input.dispatchKeyEvent', type='rawKeyDown', key='a', windowsVirtualKeyCode=65, modifiers=2, commands=['selectAll'])
        self.type(text)

    def shoot(self, name):
        if not shots:
            return
        os.makedirs(shots, exist_ok=True)
        size = self.call('Page.getLayoutMetrics')['cssContentSize']
        data = self.call('Page.captureScreenshot', captureBeyondViewport=True, clip=dict(x=0, y=0, width=size['width'], height=size['height'], scale=1))
        with open(f'{shots}/{name}.png', 'wb') as file:
            file.write(base64.b64decode(data['data']))

    def end(self):
        self.process.kill()
        self.process.wait()


CONTRAST = """(() => {
    const light = text => { const c = text.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                            return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]; };
    const back = e => { const c = getComputedStyle(e).backgroundColor; return c === 'rgba(0, 0, 0, 0)' ? back(e.parentElement) : c; };
    return Math.min(...['h1', '#about', 'label', '#status', '#make', '#command', '#save', '#copy', '.show span'].map(name => {
        const e = document.querySelector(name), a = light(getComputedStyle(e).color), b = light(back(e));
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); }));
})()"""
text_of = "document.getElementById('%s').textContent"


def look(view, browser, width, scheme):
    browser.call('Emulation.setDeviceMetricsOverride', width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
    browser.call('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': scheme}])
    browser.call('Page.navigate', url=view.address)
    browser.wait("document.getElementById('sampler') && document.getElementById('sampler').options.length > 0")
    browser.shoot(f'{width}-{scheme}-before')
    browser.value("said = []; new MutationObserver(() => said.push(document.getElementById('status').textContent))"
                  ".observe(document.getElementById('status'), { childList: true }); 0")
    browser.value("last = null; real = URL.createObjectURL; URL.createObjectURL = blob => real.call(URL, last = blob); 0")
    browser.go_to('class')
    for _ in range(4):
        browser.press('ArrowDown')
    for name, text in ('seed', '21'), ('count', '2'), ('steps', '7'):
        browser.fill(name, text)
    browser.press('Enter')
    browser.wait(text_of % 'status' + ".includes('Picture 2 of 2: done')")
    said = browser.value('said')
    steps = [text for text in said if ': step ' in text]
    assert len(set(steps)) > 4 and steps == sorted(steps), said
    assert browser.value("document.querySelectorAll('#grid li').length") == 2

    # The picture is the one that the command makes, to the byte.
    command = shlex.split(browser.value(text_of % 'command'))
    assert command[command.index('--seeds') + 1] == '22' and command[command.index('--steps') + 1] == '7', command
    assert command[command.index('--class') + 1] == 'Dress', command
    subprocess.run([sid2, *command[1:]], check=True, capture_output=True)
    data = browser.value("new Promise(done => { const reader = new FileReader(); reader.onload = () => done(reader.result); "
                         "reader.readAsDataURL(last); })")
    with open(command[command.index('--out') + 1], 'rb') as file:
        assert base64.b64decode(data.split(',')[1]) == file.read(), 'the command makes another picture'
    size = browser.value("(i => [i.naturalWidth, i.naturalHeight, i.clientWidth])(document.getElementById('picture'))")
    assert size[:2] == [32, 32] and size[2] >= 256, size
    assert browser.value("document.getElementById('save').download") == command[command.index('--out') + 1]

    assert browser.value('document.scrollingElement.scrollWidth') <= width, 'the page is wider than the screen'
    assert browser.value(CONTRAST) >= 4.5, browser.value(CONTRAST)
    browser.shoot(f'{width}-{scheme}')

    # The first one of the grid again, with its settings; then it goes.
    browser.go_to('show')
    browser.press('Enter')
    assert browser.value("document.getElementById('seed').value + document.getElementById('class').value") == '213'
    assert '--seeds 21' in browser.value(text_of % 'command')
    assert browser.value("document.querySelector('[aria-current]') === document.querySelector('#grid .show')")
    browser.go_to('drop')
    browser.press('Enter')
    assert browser.value("document.querySelectorAll('#grid li').length") == 1 and browser.focus() == 'show'

    # A long one is stopped, and the next is made all the same.
    browser.fill('count', '1', modifiers=8)
    browser.fill('steps', '9999')
    browser.press('Enter')
    browser.wait(text_of % 'status' + ".includes('step ')")
    browser.press('Escape')
    browser.wait(text_of % 'status' + " === 'stopped'")
    browser.fill('steps', '0')
    browser.press('Enter')
    assert browser.value("document.getElementById('steps').matches(':invalid')") and not browser.value('work')
    browser.fill('steps', '3')
    browser.press('Enter')
    browser.wait(text_of % 'status' + ".startsWith('done')")
    browser.go_to('clear')
    browser.press('Enter')
    assert browser.value("document.getElementById('kept').hidden") and browser.focus() == 'make'


browser = Browser()
try:
    with View(sid2, 'model') as view:
        for width in 1200, 400:
            for scheme in 'light', 'dark':
                look(view, browser, width, scheme)
        assert view.end() == 0
        browser.go_to('make')
        browser.press('Enter')  # nobody answers any more
        browser.wait("!work && " + text_of % 'status' + " !== 'waiting'")
        assert not [p for p in browser.problems if 'ERR_CONNECTION' not in json.dumps(p)], browser.problems
finally:
    browser.end()
