// The script of report.html, run in jsdom: everywhere. test/report/browser.test.ts does the same in Chromium where there is one.
import { expect, test } from '@jest/globals';
import { JSDOM, VirtualConsole } from 'jsdom';
import { smooth } from '../../lib/report/numbers.js';
import { reportPage } from './page.js';

function open(html = reportPage()) {
  const errors: unknown[] = [];
  const virtualConsole = new VirtualConsole();
  virtualConsole.on('jsdomError', (error) => errors.push(error));
  virtualConsole.on('error', (error) => errors.push(error));
  const { window } = new JSDOM(html, { runScripts: 'dangerously', virtualConsole });
  const { document } = window;
  const one = <T extends Element>(selector: string) => document.querySelector(selector) as T;
  const set = (selector: string, value: string) => {
    const field = one<HTMLInputElement>(selector);
    field.value = value;
    field.dispatchEvent(new window.Event('input'));
  };
  return { window, document, one, set, errors };
}

const figureOf = (document: Document, title: string) =>
  [...document.querySelectorAll<HTMLElement>('figure[data-chart]')].find((f) => f.querySelector('b')!.textContent === title)!;
const pathOf = (figure: Element, line: number) => figure.querySelector(`[data-line="${line}"]`)!.getAttribute('d')!;

test('without its script the page is complete and the tools are hidden', () => {
  const document = new JSDOM(reportPage()).window.document;
  expect([...document.querySelectorAll<HTMLElement>('.tools')].every((t) => t.hidden)).toBe(true);
  expect(document.querySelectorAll('.steps .card').length).toBeGreaterThan(10);
  expect(document.querySelectorAll('[data-groups] circle').length).toBeGreaterThan(50);
});

test('smoothing redraws the curves by the same moving average as the page, and back', () => {
  const { document, set, errors } = open();
  const loss = figureOf(document, 'Loss');
  const reward = figureOf(document, 'Reward');
  const before = [pathOf(loss, 0), pathOf(reward, 0), pathOf(reward, 1)];
  set('.smoothing input', '4');
  expect(document.querySelector('.smoothing .count')!.textContent).toBe('over about 17 points');
  const { t, b, v, s } = JSON.parse(loss.dataset.chart!) as { t: number; b: number; v: [number, number]; s: { y: number[] }[] };
  const expected = smooth(s[0]!.y, 17).map((y) => t + (1 - (y - v[0]) / (v[1] - v[0])) * (b - t));
  const drawn = pathOf(loss, 0).split(/[ML]/).slice(1).map((p) => Number(p.split(' ')[1])); // prettier-ignore
  expect(drawn).toHaveLength(expected.length);
  drawn.forEach((y, i) => expect(Math.abs(y - expected[i]!)).toBeLessThan(0.06));
  expect(pathOf(reward, 0)).toBe(before[1]); // the raw values stay behind
  expect(pathOf(reward, 1)).not.toBe(before[2]);
  const time = figureOf(document, 'Time by phase');
  expect(time.querySelectorAll('.layer').length).toBeGreaterThan(3); // layers are not smoothed
  set('.smoothing input', '0');
  expect([pathOf(loss, 0), pathOf(reward, 0), pathOf(reward, 1)]).toEqual(before);
  expect(errors).toEqual([]);
});

test('samples: best first, worst first, one prompt over time, containing a text, and back to steps', () => {
  const { document, one, set, errors } = open();
  const found = () => [...document.querySelectorAll<HTMLElement>('.found .card')];
  const rewards = () => found().map((c) => Number(c.dataset.reward));
  const all = document.querySelectorAll('.steps .card').length;
  set('[name=order]', 'best');
  expect(rewards()).toEqual([...rewards()].sort((a, b) => b - a));
  expect(found()).toHaveLength(all);
  expect(one<HTMLElement>('.steps').hidden).toBe(true);
  set('[name=order]', 'worst');
  expect(rewards()).toEqual([...rewards()].sort((a, b) => a - b));
  set('[name=order]', 'time');
  set('[name=prompt]', one<HTMLOptionElement>('[name=prompt] option:nth-child(2)').value);
  const steps = found().map((c) => Number(c.dataset.step));
  expect(new Set(found().map((c) => c.dataset.prompt)).size).toBe(1);
  expect(new Set(steps).size).toBeGreaterThan(2);
  expect(steps).toEqual([...steps].sort((a, b) => a - b));
  set('[name=prompt]', '');
  set('[name=text]', 'NOT SURE');
  expect(found().length).toBeGreaterThan(0);
  for (const c of found()) expect(c.textContent).toContain('not sure');
  expect(document.querySelector('.browser .count')!.textContent).toBe(`${found().length} of ${all}`);
  set('[name=text]', '');
  set('[name=order]', '');
  expect([one<HTMLElement>('.steps').hidden, one<HTMLElement>('.found').hidden, found().length]).toEqual([false, true, 0]);
  expect(errors).toEqual([]);
});

test('a hostile completion stays text, also when the script shows it', () => {
  const { window, document, set } = open();
  set('[name=text]', 'onerror');
  expect(document.querySelector('.found .card')!.textContent).toContain('<img src=x onerror=');
  expect(document.querySelector('.found img, .found script')).toBeNull();
  expect((window as unknown as { hacked?: number }).hacked).toBeUndefined();
});

test('values under the pointer', () => {
  const { window, document, errors } = open();
  const figure = figureOf(document, 'Reward');
  figure.querySelector('svg')!.getBoundingClientRect = () => ({ left: 0, width: 1140 }) as DOMRect;
  figure.querySelector('svg')!.dispatchEvent(Object.assign(new window.Event('pointermove'), { clientX: 1126 }));
  expect(figure.querySelector('.tip')!.textContent).toMatch(/^step 200mean reward of a step: 0\.\d+smoothed: 0\.\d+$/);
  expect(errors).toEqual([]);
});
