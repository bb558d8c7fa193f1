//! Counts in Durable Objects: one for each name, each with a storage of its own.
//!
//! | Request                  | Answer                                                                     |
//! |--------------------------|----------------------------------------------------------------------------|
//! | `POST /<name>/increment` | adds one: `counter a = 3 (object on v2, worker on v1) (up: 2 calls)`       |
//! | `GET /<name>`            | the same line, without adding                                              |

import { get, put } from 'sluice:worker-p2/object-storage@0.1.0';
import { get as versionMetadata } from 'sluice:worker-p2/version-metadata@0.1.0';
import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from 'wasi:http/types@0.2.10';

// --- The worker, which finds the object ---

export const incomingHandler = {
  async handle(request, responseOut) {
    const [, name, action = ''] = request.pathWithQuery().split('/');
    if (!name) return answer(responseOut, 404, "see the first lines of this worker's source\n");

    // The host is the binding's name. An error has no answer: the object was reset in between, for example, and the
    // caller may try again.
    const response = await fetch(`http://counter.internal/${action}`, {
      method: request.method().tag.toUpperCase(),
      headers: { 'sluice-object': name, 'worker-version': version() },
    }).catch((error) => new Response(`counter ${name}: ${error.message}\n`, { status: 503 }));
    answer(responseOut, response.status, await response.text());
  },
};

// --- The object, which counts ---

class Counter {
  /// Since this object is in memory.
  calls = 0;

  constructor(name) {
    this.name = name;
  }

  static open(className, id, name) {
    return new Counter(name ?? id);
  }

  fetch(request, responseOut) {
    this.calls += 1;
    const action = `${request.method().tag} ${request.pathWithQuery()}`;
    let count = read('count');
    if (action === 'post /increment') write('count', (count += 1));
    else if (action !== 'get /') return answer(responseOut, 404, "see the first lines of this worker's source\n");

    const [worker] = request.headers().get('worker-version').map((value) => new TextDecoder().decode(value));
    const versions = `(object on ${version()}, worker on ${worker})`;
    answer(responseOut, 200, `counter ${this.name} = ${count} ${versions} (up: ${this.calls} calls)\n`);
  }

  alarm(_info) {
    // None is ever set.
  }
}

export const durableObject = { LiveObject: Counter };

function read(key) {
  const stored = get(key);
  return stored ? Number(new TextDecoder().decode(stored)) : 0;
}

function write(key, number) {
  put([[key, new TextEncoder().encode(String(number))]]);
}

// --- What both need ---

/// The tag of the version that runs this, or the beginning of its id.
function version() {
  const metadata = versionMetadata();
  return metadata ? metadata.tag || metadata.id.slice(0, 8) : 'an unknown version';
}

function answer(responseOut, status, text) {
  const headers = Fields.fromList([['content-type', new TextEncoder().encode('text/plain; charset=utf-8')]]);
  const response = new OutgoingResponse(headers);
  response.setStatusCode(status);
  const body = response.body();
  ResponseOutparam.set(responseOut, { tag: 'ok', val: response });

  const stream = body.write();
  stream.blockingWriteAndFlush(new TextEncoder().encode(text));
  // The stream is a part of the body, and goes before it.
  stream[Symbol.dispose]();
  OutgoingBody.finish(body, undefined);
}
