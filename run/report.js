// What points, touches and arrow keys do: values of a chart, and grids of samples over time; and clips that play.
for (const svg of document.querySelectorAll('.chart svg')) {
  const [left, right, low, high, log_x] = svg.dataset.x.split(' ').map(Number);
  const [top, bottom, least, most, log] = svg.dataset.y.split(' ').map(Number);
  const lines = [...svg.querySelectorAll('polyline[data-name]')].map(line => ({
    name: line.dataset.name, style: line.getAttribute('class').replace(/ dot$/, ''),
    points: line.getAttribute('points').trim().split(' ').filter(Boolean).map(p => p.split(',').map(Number))}));
  const all = [...new Set(lines.flatMap(l => l.points.map(p => p[0])))].sort((a, b) => a - b);
  if (!all.length) continue;
  const mark = svg.appendChild(document.createElementNS(svg.namespaceURI, 'line'));
  const tip = svg.parentNode.appendChild(document.createElement('div'));
  mark.setAttribute('class', 'mark'); mark.setAttribute('y1', top); mark.setAttribute('y2', bottom);
  tip.className = 'tip'; tip.setAttribute('role', 'status');
  let at = all.length - 1;
  const short = v => v.toLocaleString('en', {maximumSignificantDigits: 4});
  const at_x = (points, x) => { // between its neighbours; undefined beside the line
    const i = points.findIndex(p => p[0] >= x - 0.005);
    if (i < 0 || (i === 0 && points[0][0] > x + 0.005)) return undefined;
    if (i === 0) return points[0][1];
    const [x0, y0] = points[i - 1], [x1, y1] = points[i];
    return y0 + (y1 - y0) * Math.min(1, (x - x0) / (x1 - x0));
  };
  const show = () => {
    const x = all[at], share = y => (bottom - y) / (bottom - top);
    const value = y => log ? least * (most / least) ** share(y) : least + (most - least) * share(y);
    mark.setAttribute('x1', x); mark.setAttribute('x2', x);
    const along = (x - left) / (right - left);
    tip.replaceChildren(short(log_x ? low * (high / low) ** along : low + (high - low) * along) + ' ' + svg.dataset.unit);
    for (const line of lines) {
      const y = at_x(line.points, x);
      if (y === undefined) continue;
      const row = tip.appendChild(document.createElement('div'));
      row.appendChild(document.createElement('i')).className = line.style;
      row.append((line.name ? line.name + ' ' : '') + short(value(y)));
    }
    const box = svg.getBoundingClientRect(), host = svg.parentNode.getBoundingClientRect();
    const px = (x / svg.viewBox.baseVal.width) * box.width + box.left - host.left;
    tip.style.top = box.top - host.top + 4 + 'px';
    tip.style.left = Math.max(4, Math.min(px > host.width / 2 ? px - tip.offsetWidth - 10 : px + 10, host.width - tip.offsetWidth - 4)) + 'px';
    svg.parentNode.classList.add('on');
  };
  const hide = () => svg.parentNode.classList.remove('on');
  svg.tabIndex = 0;
  svg.onpointermove = svg.onpointerdown = e => {
    const box = svg.getBoundingClientRect(), x = (e.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    at = all.indexOf(all.reduce((a, b) => Math.abs(b - x) < Math.abs(a - x) ? b : a)); show();
  };
  svg.onpointerleave = svg.onblur = hide;
  svg.onfocus = show;
  svg.onkeydown = e => {
    const step = {ArrowLeft: -1, ArrowRight: 1, Home: -all.length, End: all.length}[e.key];
    if (!step) return;
    at = Math.max(0, Math.min(all.length - 1, at + step)); show(); e.preventDefault();
  };
}
const grids = [...document.querySelectorAll('.samples [data-images]')];
const times = [...new Set(grids.map(g => +g.dataset.images))].sort((a, b) => a - b);
if (times.length > 1) {
  const range = document.createElement('input');
  Object.assign(range, {type: 'range', min: 0, max: times.length - 1, value: times.length - 1});
  range.setAttribute('aria-label', 'images seen');
  range.oninput = () => {
    for (const figure of document.querySelectorAll('.samples figure')) {
      const own = [...figure.querySelectorAll('[data-images]')];
      const shown = own.filter(g => +g.dataset.images <= times[range.value]).pop() || own[0];
      own.forEach(g => g.hidden = g !== shown);
    }
  };
  document.querySelector('.samples').before(range);
  range.oninput();
}
// A grid of clips has a row each; frames that were given have an amber frame around them. Motion that is not wanted waits for a click.
const films = [...document.querySelectorAll('.samples img[data-frames]')].map(image => {
  const canvas = document.createElement('canvas');
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', image.alt + ', playing');
  image.before(canvas);
  image.hidden = true;
  return {image, canvas, frames: +image.dataset.frames, given: +image.dataset.given, high: +image.dataset.height};
});
const film = number => {
  for (const {image, canvas, frames, given, high} of films) {
    if (!image.naturalWidth || !canvas.offsetParent) continue;
    const wide = (image.naturalWidth - 2) / frames - 2, rows = (image.naturalHeight - 2) / (high + 2);
    const columns = Math.ceil(Math.sqrt(rows)), at = Math.min(number % (frames + 5), frames - 1);
    canvas.width = columns * (wide + 2) + 2;
    canvas.height = Math.ceil(rows / columns) * (high + 2) + 2;
    const brush = canvas.getContext('2d');
    brush.fillStyle = at < given ? '#ffaa00' : '#ffffff';
    brush.fillRect(0, 0, canvas.width, canvas.height);
    for (let row = 0; row < rows; row++)
      brush.drawImage(image, 2 + at * (wide + 2), 2 + row * (high + 2), wide, high,
                      2 + row % columns * (wide + 2), 2 + Math.floor(row / columns) * (high + 2), wide, high);
  }
};
if (films.length) {
  let number = 0;
  const on = () => film(number++);
  if (!matchMedia('(prefers-reduced-motion: reduce)').matches) setInterval(on, 125);
  else films.forEach(f => f.canvas.onclick = on);
  Promise.allSettled(films.map(f => f.image.decode())).then(on);
}
