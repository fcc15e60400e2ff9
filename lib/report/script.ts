// The script of the page, as text: values under the pointer, smoothing, browsing samples. textContent and cloneNode only: names and
// completions come from strangers. Everything it works on is in the page already, and the page is complete without it.

const HOVER = `
const charts = [...document.querySelectorAll('figure[data-chart]')].map((figure) => ({ figure, d: JSON.parse(figure.dataset.chart) }));
const placeOf = (d) => {
  const first = d.x[0], last = d.x[d.x.length - 1];
  return (x) => first === last ? (d.l + d.r) / 2 : d.l + (x - first) / (last - first) * (d.r - d.l);
};
for (const { figure, d } of charts) {
  const svg = figure.querySelector('svg'), line = figure.querySelector('.cursor'), tip = figure.querySelector('.tip'), at = placeOf(d);
  const show = (v) => v === null ? '–' : d.p ? +(v * 100).toFixed(2) + ' %' : v.toLocaleString('en-US', { maximumSignificantDigits: 4 });
  svg.addEventListener('pointermove', (event) => {
    const box = svg.getBoundingClientRect(), px = (event.clientX - box.left) * d.w / box.width;
    let best = 0;
    d.x.forEach((x, i) => { if (Math.abs(at(x) - px) < Math.abs(at(d.x[best]) - px)) best = i; });
    line.setAttribute('x1', at(d.x[best])); line.setAttribute('x2', at(d.x[best])); line.style.visibility = 'visible';
    tip.replaceChildren(Object.assign(document.createElement('b'), { textContent: 'step ' + d.x[best].toLocaleString('en-US') }));
    for (const s of d.s) {
      const row = document.createElement('div'), swatch = document.createElement('i');
      swatch.className = 'c' + s.c; row.append(swatch, s.n + ': ' + show(s.y[best])); tip.append(row);
    }
    tip.style.display = 'block';
    const x = box.left - figure.getBoundingClientRect().left + at(d.x[best]) * box.width / d.w;
    tip.style.left = (x + 14 + tip.offsetWidth > figure.clientWidth ? x - 14 - tip.offsetWidth : x + 14) + 'px';
    tip.style.top = '64px';
  });
  svg.addEventListener('pointerleave', () => { tip.style.display = 'none'; line.style.visibility = 'hidden'; });
}`;

// The same moving average as lib/report/numbers.ts's smooth.
const SMOOTHING = `
const smooth = (y, span) => {
  const keep = 1 - 2 / (span + 1);
  let sum = 0, weight = 0;
  return y.map((v) => v === null ? null : (sum = keep * sum + v) / (weight = keep * weight + 1));
};
const pathOf = (d, y) => {
  const at = placeOf(d), py = (v) => d.t + (1 - (v - d.v[0]) / (d.v[1] - d.v[0])) * (d.b - d.t);
  let path = '';
  y.forEach((v, i) => { if (v !== null) path += (i > 0 && y[i - 1] !== null ? 'L' : 'M') + at(d.x[i]).toFixed(1) + ' ' + py(v).toFixed(1); });
  return path;
};
const tools = document.querySelector('.smoothing');
if (tools) {
  const slider = tools.querySelector('input'), words = tools.querySelector('.count'), drawn = new Map();
  for (const path of document.querySelectorAll('.line[data-line]')) drawn.set(path, path.getAttribute('d'));
  const update = () => {
    const span = +slider.value === 0 ? 0 : 2 ** slider.value + 1;
    words.textContent = span ? 'over about ' + span + ' points' : 'off';
    for (const { figure, d } of charts) {
      if (d.k || d.x.length < 3) continue;
      for (const path of figure.querySelectorAll('.line[data-line]')) {
        const line = d.s[path.dataset.line], raw = d.s.some((s) => s.m === +path.dataset.line); // the raw values behind a smoothed line stay
        const from = line.m === undefined ? line : d.s[line.m];
        path.setAttribute('d', span && !raw ? pathOf(d, smooth(from.y, span)) : drawn.get(path));
      }
    }
  };
  slider.addEventListener('input', update);
  tools.hidden = false;
}`;

const BROWSING = `
const browser = document.querySelector('.browser');
if (browser) {
  const field = (name) => browser.querySelector('[name=' + name + ']'), found = browser.querySelector('.found'), steps = browser.querySelector('.steps');
  const cards = [...steps.querySelectorAll('.card')], reward = (c) => c.dataset.reward === '' ? -Infinity : +c.dataset.reward;
  const orders = { best: (a, b) => reward(b) - reward(a), worst: (a, b) => reward(a) - reward(b), time: (a, b) => a.dataset.step - b.dataset.step };
  const update = () => {
    const order = field('order').value, prompt = field('prompt').value, text = field('text').value.toLowerCase();
    const plain = !order && !prompt && !text;
    found.hidden = plain; steps.hidden = !plain;
    if (plain) { browser.querySelector('.count').textContent = ''; found.replaceChildren(); return; }
    const some = cards.filter((c) => (!prompt || c.dataset.prompt === prompt) && (!text || c.textContent.toLowerCase().includes(text)));
    some.sort(orders[order || 'time']);
    found.replaceChildren(...some.map((c) => c.cloneNode(true)));
    browser.querySelector('.count').textContent = some.length + ' of ' + cards.length;
  };
  for (const name of ['order', 'prompt', 'text']) field(name).addEventListener('input', update);
  browser.querySelector('.tools').hidden = false;
}`;

// Each part by itself: one that fails leaves the others.
export const SCRIPT = `'use strict';${HOVER}\n{${SMOOTHING}\n}\n{${BROWSING}\n}`;
