//! The smallest worker in JavaScript whose instance can serve again: it exports the handler itself, with no `fetch` event.

import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from 'wasi:http/types@0.2.10';

const encoder = new TextEncoder();

export const incomingHandler = {
  handle(_request, responseOut) {
    const response = new OutgoingResponse(Fields.fromList([['content-type', encoder.encode('text/plain')]]));
    const body = response.body();
    ResponseOutparam.set(responseOut, { tag: 'ok', val: response });

    const stream = body.write();
    stream.blockingWriteAndFlush(encoder.encode('Hello, World!\n'));
    // The stream is a part of the body, and goes before it.
    stream[Symbol.dispose]();
    OutgoingBody.finish(body, undefined);
  },
};
