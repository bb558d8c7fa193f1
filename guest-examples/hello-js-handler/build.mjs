//! Makes the component `build/hello-js-handler.wasm` of `hello.js`.

import { componentize } from '@bytecodealliance/componentize-js';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

const here = import.meta.dirname;
const contracts = join(here, '../../wit/sluice-worker-p2/deps');
const build = join(here, 'build');

// The JavaScript engine inside the component knows WASI as 0.2.10, and asks for exactly that. What it
// uses is the same in the later version that we keep, so a copy under the older number will do.
await rm(build, { recursive: true, force: true });
for (const file of await readdir(contracts, { recursive: true })) {
  if (!file.endsWith('.wit')) continue;
  const copy = join(build, 'wit/deps', file);
  const text = await readFile(join(contracts, file), 'utf8');
  await mkdir(dirname(copy), { recursive: true });
  await writeFile(copy, text.replaceAll('0.2.12', '0.2.10'));
}
await writeFile(
  join(build, 'wit/worker.wit'),
  'package example:hello-js-handler;\nworld worker { export wasi:http/incoming-handler@0.2.10; }\n',
);

const { component } = await componentize({
  sourcePath: join(here, 'hello.js'),
  witPath: join(build, 'wit'),
  worldName: 'worker',
  // The handler is exported by hand, so there is no `fetch` event.
  disableFeatures: ['fetch-event'],
});
await writeFile(join(build, 'hello-js-handler.wasm'), component);
