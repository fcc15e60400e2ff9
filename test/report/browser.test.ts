// report.html in a real browser, where there is one: FUSED_GRPO_CHROMIUM, or chromium or google-chrome on the PATH.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { reportPage } from './page.js';

const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
const onPath = (process.env.PATH ?? '').split(delimiter).flatMap((folder) => names.map((name) => join(folder, name)));
const executablePath = process.env.FUSED_GRPO_CHROMIUM ?? onPath.find((file) => existsSync(file));

(executablePath ? describe : describe.skip)('report.html in Chromium (skipped: there is no chromium on the PATH)', () => {
  const folder = mkdtempSync(join(tmpdir(), 'browser '));
  let browser: Browser;
  let page: Page;
  const errors: string[] = [];
  const requests: string[] = [];
  beforeAll(async () => {
    const { chromium } = await import('playwright-core');
    browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
    page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
    page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
    page.on('pageerror', (error) => errors.push(String(error)));
    page.on('request', (request) => requests.push(request.url()));
    writeFileSync(join(folder, 'report.html'), reportPage());
    await page.goto(pathToFileURL(join(folder, 'report.html')).href);
  });
  afterAll(async () => {
    await browser?.close();
    rmSync(folder, { recursive: true });
  });

  test('it opens without an error and asks for nothing but itself', async () => {
    expect(await page.title()).toBe('A run');
    expect(errors).toEqual([]);
    expect(requests).toHaveLength(1);
    expect(await page.evaluate('window.hacked')).toBeUndefined();
  });

  test('smoothing by the keyboard', async () => {
    const path = page.locator('figure', { hasText: 'In GRPO it hovers' }).locator('.line').first();
    const before = await path.getAttribute('d');
    const slider = page.locator('.smoothing input');
    await slider.focus();
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('ArrowRight');
    expect(await page.locator('.smoothing .count').textContent()).toBe('over about 5 points');
    expect(await path.getAttribute('d')).not.toBe(before);
    await page.keyboard.press('Home');
    expect(await path.getAttribute('d')).toBe(before);
  });

  test('the pointer shows values beside the curve', async () => {
    const svg = page.locator('figure.wide svg').first();
    await svg.hover();
    const tip = page.locator('figure.wide .tip').first();
    expect(await tip.isVisible()).toBe(true);
    expect(await tip.textContent()).toMatch(/^step \d+mean reward/);
    await page.mouse.move(0, 0);
    expect(await tip.isVisible()).toBe(false);
  });

  test('browsing the samples', async () => {
    await page.selectOption('[name=order]', 'worst');
    expect(await page.locator('.found .card').first().isVisible()).toBe(true);
    expect(await page.locator('.steps').isVisible()).toBe(false);
    await page.fill('[name=text]', 'onerror');
    expect(await page.locator('.found .card').count()).toBe(1);
    expect(await page.locator('.found .card').textContent()).toContain('<script>window.hacked=1</script>');
    expect(await page.evaluate('window.hacked')).toBeUndefined();
    await page.fill('[name=text]', '');
    await page.selectOption('[name=order]', '');
    expect(await page.locator('.steps').isVisible()).toBe(true);
    expect(errors).toEqual([]);
  });

  test('nothing is wider than a phone', async () => {
    await page.setViewportSize({ width: 390, height: 800 });
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(390);
    await page.setViewportSize({ width: 1280, height: 900 });
  });
});
