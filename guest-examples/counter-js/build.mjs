//! Makes the component `build/counter-js.wasm` of `counter.js`.

import { componentize } from '@bytecodealliance/componentize-js';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

const here = import.meta.dirname;
const contracts = join(here, '../../wit/sluice-worker-p2');
const build = join(here, 'build');

// The JavaScript engine inside the component knows WASI as 0.2.10, and asks for exactly that. What it
// uses is the same in the later version that we keep, so a copy under the older number will do.
await rm(build, { recursive: true, force: true });
for (const file of await readdir(contracts, { recursive: true })) {
  if (!file.endsWith('.wit')) continue;
  // What others publish lies flat beside our own contract, as the one folder that is looked into.
  const copy = join(build, 'wit/deps', file.replace(/^deps./, '').replace('sluice-worker-p2.wit', 'sluice/worker.wit'));
  const text = await readFile(join(contracts, file), 'utf8');
  await mkdir(dirname(copy), { recursive: true });
  await writeFile(copy, text.replaceAll('0.2.12', '0.2.10'));
}
await writeFile(
  join(build, 'wit/worker.wit'),
  `package example:counter-js;
world worker {
  import sluice:worker-p2/version-metadata@0.1.0;
  import sluice:worker-p2/object-storage@0.1.0;
  import wasi:http/outgoing-handler@0.2.10;
  export wasi:http/incoming-handler@0.2.10;
  export sluice:worker-p2/durable-object@0.1.0;
}
`,
);

const { component } = await componentize({
  sourcePath: join(here, 'counter.js'),
  witPath: join(build, 'wit'),
  worldName: 'worker',
  // The handler is exported by hand, beside the object, so there is no `fetch` event.
  disableFeatures: ['fetch-event'],
});
await writeFile(join(build, 'counter-js.wasm'), component);
