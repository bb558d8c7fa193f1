// What a person does on the dashboard, done by a browser: `tests/it/browser.rs` starts a node and this, and believes what it says.
//
//   node flows.mjs PLAYWRIGHT CHROMIUM '{"control":"http://…","data":"127.0.0.1:…","token":"…","module":"….wasm","shots":"folder"}'
//
// Prints a line for each step. Ends with 1, and why on standard error, at the first thing that is not as it should be. Each page is
// also asked for what no page may do: write an error to the console, ask another host, move under the reader.

import { readFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [playwright, chromiumPath, given] = process.argv.slice(2);
const { chromium } = await import(pathToFileURL(path.join(playwright, 'node_modules/playwright-core/index.mjs')).href);
const { control, data, token, module, shots } = JSON.parse(given);

const faults = [];
const check = (good, what) => {
  if (!good) throw new Error(what);
};

const browser = await chromium.launch({ executablePath: chromiumPath, args: ['--no-sandbox', '--disable-dev-shm-usage'] });
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
const page = await context.newPage();
page.setDefaultTimeout(20_000);
page.on('console', (message) => message.type() === 'error' && faults.push(`console: ${message.text()}`));
page.on('pageerror', (error) => faults.push(`error on the page: ${error.message}`));
page.on('request', (request) => {
  const url = request.url();
  if (!url.startsWith(control) && !url.startsWith('data:')) faults.push(`a request to another host: ${url}`);
});
await page.addInitScript(() => {
  window.moved = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.moved += entry.value;
  }).observe({ type: 'layout-shift', buffered: true });
});

let number = 0;
/** One step: what it is, and the work. A screenshot is kept whether it went well or not. */
async function step(name, work) {
  number += 1;
  const shot = path.join(shots, `${String(number).padStart(2, '0')}-${name.replaceAll(' ', '-')}.png`);
  try {
    await work();
    const moved = await page.evaluate(() => window.moved);
    check(moved < 0.01, `the layout moved by ${moved}`);
    check(faults.length === 0, faults.join('; '));
  } catch (error) {
    await page.screenshot({ path: shot, fullPage: true });
    throw new Error(`${name}: ${error.message} (at ${page.url()}; see ${shot})`);
  }
  await page.screenshot({ path: shot, fullPage: true });
  console.log(name);
}

/** A request to a worker, as any client sends it. */
const ask = (worker, where = '/') =>
  new Promise((resolve, reject) => {
    const request = http.get(`http://${data}${where}`, { headers: { host: `${worker}.localhost` } }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode));
    });
    request.on('error', reject);
  });

/** Waits until `look` is true of the page as it is, without loading it anew. */
const until = (look, what, argument) =>
  page.waitForFunction(look, argument, { polling: 100 }).catch(() => check(false, what));

/** Drops files on the form, as from a folder of the desktop. */
const dropFiles = async (files) => {
  const transfer = await page.evaluateHandle((files) => {
    const transfer = new DataTransfer();
    for (const { name, bytes } of files) transfer.items.add(new File([new Uint8Array(bytes)], name));
    return transfer;
  }, files);
  await page.dispatchEvent('[data-drop]', 'drop', { dataTransfer: transfer });
};

const text = (selector) => page.locator(selector).first().innerText();

try {
  await step('sign in', async () => {
    await page.goto(`${control}/workers/teller`);
    check(page.url().includes('/sign-in'), 'a page is shown to whoever has not signed in');
    await page.fill('#token', token);
    await page.click('button[type=submit]');
    await page.waitForURL(`${control}/workers/teller`);
    check((await text('h1')).includes('teller'), 'the page that was asked for does not come after the sign-in');
  });

  await step('upload', async () => {
    await page.click('a:has-text("Upload…")');
    await dropFiles([
      { name: 'wrangler.toml', bytes: [...Buffer.from('name = "teller"\n[vars]\nGREETING = "from a file"\n')] },
      { name: 'hello.wasm', bytes: [...readFileSync(module)] },
    ]);
    const chosen = () => page.$$eval('[data-drop] input', (fields) => fields.map((field) => field.files[0]?.name).join());
    check((await chosen()) === 'wrangler.toml,hello.wasm', `the dropped files are not in their fields: ${await chosen()}`);
    await page.click('button:has-text("Preview")');
    await page.waitForURL(/\/uploads\//);
    check((await text('#effect')).includes('from a file'), 'the preview does not show what the file changes');
    await page.fill('#message', "it's from the browser");
    await page.fill('#tag', 'dropped');
    const command = await text('[data-command]');
    check(command.includes("--tag='dropped' --message='it'\\''s from the browser'"), `the command does not follow: ${command}`);
    await page.click('button[value=version]');
    await page.waitForURL(/\/versions\//);
    check((await text('main')).includes("it's from the browser"), 'the new version does not show its message');
  });

  await step('a new worker', async () => {
    await page.goto(`${control}/`);
    await page.click('a:has-text("New worker…")');
    await page.setInputFiles('#configuration', { name: 'wrangler.toml', mimeType: 'application/toml', buffer: Buffer.from('nme = "fresh"') });
    await page.setInputFiles('#module', module);
    await page.click('button:has-text("Preview")');
    await page.waitForURL(/\/uploads\//);
    check(/did you mean .name.\?/.test(await text('main')), 'a slip in the file is not told');
    // The module stays: only the file is dropped anew.
    await dropFiles([{ name: 'wrangler.jsonc', bytes: [...Buffer.from('{ "name": "fresh", /* yes */ }')] }]);
    await page.click('button:has-text("Preview")');
    await page.waitForSelector('#effect');
    await page.click('button[value=deploy]');
    await page.waitForURL(/\/workers\/fresh\/deployments/);
    check((await ask('fresh')) === 200, 'the new worker does not answer');
  });

  await step('split', async () => {
    await page.goto(`${control}/workers/teller/deploy`);
    const newest = await page.locator('#add option').evaluateAll((all) => all.map((one) => one.value).find((value) => value));
    await page.selectOption('#add', newest);
    await page.click('button[value=add]');
    await page.waitForSelector('#share-1');
    await page.fill('#share-0', '75');
    await page.fill('#share-1', '25');
    await page.fill('#message', 'a quarter');
    await page.click('button.primary[value=preview]');
    await page.waitForSelector('#effect');
    check(/25/.test(await text('#effect')), 'the preview does not say what moves');
    await page.click('button[value=deploy]');
    await page.waitForURL(/\/workers\/teller/);
    await page.goto(`${control}/workers/teller`);
    const active = await text('#active');
    check(active.includes('75') && active.includes('25') && active.includes('a quarter'), `the split is not shown: ${active}`);
  });

  await step('live shares', async () => {
    await until(() => /live/.test(document.querySelector('#live')?.textContent ?? ''), 'the page does not get live');
    const before = await text('#active');
    for (let n = 0; n < 40; n += 1) check((await ask('teller')) === 200, 'the worker does not answer');
    await until((before) => document.querySelector('#active').innerText !== before, 'the live shares do not move', before);
    check(/achieved/.test(await text('#active')), 'no achieved share is shown');
  });

  await step('roll back', async () => {
    await page.click('#active a:has-text("Roll back…")');
    await page.waitForSelector('#effect');
    await page.fill('#why', 'seen enough');
    await page.click('button:has-text("Roll back")');
    await page.waitForURL(/\/workers\/teller/);
    await page.goto(`${control}/workers/teller`);
    const active = await text('#active');
    check(active.includes('100') && active.includes('seen enough'), `the rollback is not shown: ${active}`);
  });

  await step('start a rollout', async () => {
    await page.click('#active a:has-text("Roll out…")');
    await page.waitForURL(/\/rollout\/start/);
    await page.fill('#steps', '30, fifty, 100');
    await page.click('form.deploy button.primary[value=preview]');
    check(/no number/.test(await text('#steps-fault')), 'what is wrong with a step is not said at its field');
    await page.fill('#steps', '30, 50, 80, 100');
    await page.fill('#every', '2s');
    await page.fill('#guards', 'error_rate<20%');
    await page.click('form.deploy button.primary[value=preview]');
    await page.waitForSelector('#effect');
    const effect = await text('#effect');
    check(/30,000 of 100,000 slots/.test(effect), `the effect of the first step is not shown: ${effect}`);
    check(/sluice rollout start teller/.test(effect), 'the command line is not shown');
    await page.click('button[value=start]');
    await page.waitForURL(/\/workers\/teller\/rollout$/);
    check(/running/.test(await text('#rollout')), 'the rollout does not run');
  });

  await step('watch it step', async () => {
    await until(() => /live/.test(document.querySelector('#live')?.textContent ?? ''), 'the page does not get live');
    const share = () => Number(document.querySelector('.steps .here strong')?.innerText.match(/\d+/)?.[0] ?? 100);
    for (let tries = 0; tries < 150 && (await page.evaluate(share)) < 50; tries += 1) {
      await Promise.all(Array.from({ length: 16 }, () => ask('teller')));
      await page.waitForTimeout(20);
    }
    check((await page.evaluate(share)) === 50, 'it does not step forward by itself');
    check(/stepped|error_rate/.test(await text('#events')), 'its events do not say why');
  });

  await step('step it forward by hand', async () => {
    await page.click('#rollout a:has-text("Step forward…")');
    await page.waitForSelector('#effect');
    check(/30,000 of 100,000 slots/.test(await text('#effect')), 'the effect of the step is not shown');
    await page.click('button[value=act]');
    await page.waitForURL(/\/workers\/teller\/rollout$/);
    check(/80 %/.test(await text('.steps .here')), 'it did not step forward');
    check(/stepped forward by/.test(await text('#events')), 'the deployment does not say that a person did it');
    await page.goto(`${control}/workers/teller`);
    check(/Rollout running/.test(await text('#rollout-note')), 'the overview does not tell of the rollout');
    await page.goto(`${control}/workers/teller/deploy`);
    check(/Any other deployment ends it/.test(await text('main')), 'the deploy page does not warn');
  });

  await step('abort it', async () => {
    await page.goto(`${control}/workers/teller/rollout`);
    await page.click('#rollout a:has-text("Abort…")');
    await page.waitForSelector('#effect');
    await page.click('button.danger[value=act]');
    await page.waitForURL(/\/workers\/teller\/rollout$/);
    check(/aborted/.test(await text('#rollout h2')), 'it is not aborted');
    check(/not reached/.test(await text('.steps')), 'the steps that never came are not told');
  });

  await step('an object', async () => {
    check((await ask('counter', '/a')) === 200, 'the object does not answer');
    await page.goto(`${control}/workers/counter/objects`);
    await page.locator('table a[href*="/objects/"]').first().click();
    await page.waitForURL(/\/objects\/[^/]+\/[^/]+$/);
    check(/version/i.test(await text('main')), 'the object does not say which version it runs');
  });

  await step('the history of an object', async () => {
    const before = page.url();
    await page.click('button[value=reset]');
    await page.waitForURL(/done=/);
    check((await ask('counter', '/a')) === 200, 'the object does not answer');
    await page.goto(before);
    const history = await text('section:has(#history-title)');
    for (const part of ['Assigned', 'Came to memory', 'Reset', 'somebody asked for it', 'sluice objects history']) {
      check(history.includes(part), `its history does not say "${part}": ${history}`);
    }
  });

  await step('tail', async () => {
    await page.goto(`${control}/workers/teller/tail`);
    await until(() => !document.querySelector('#tail-pause').disabled, 'the tail does not begin');
    // The stream may begin a moment after the page: so until one is seen.
    const seen = () => (document.querySelector('#tail').innerText.match(/\/seen-in-the-tail/g) ?? []).length > 0;
    for (let tries = 0; tries < 50 && !(await page.evaluate(seen)); tries += 1) {
      await ask('teller', '/seen-in-the-tail');
      await page.waitForTimeout(100);
    }
    check(await page.evaluate(seen), 'the tail shows no request');
  });

  await step('sign out', async () => {
    await page.click('button:has-text("Sign out"), a:has-text("Sign out")');
    await page.waitForURL(/\/sign-in/);
    await page.goto(`${control}/`);
    check(page.url().includes('/sign-in'), 'one is still in after signing out');
  });
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await browser.close();
}
