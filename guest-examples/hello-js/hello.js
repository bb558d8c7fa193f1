//! The smallest worker in JavaScript: it answers every request with `Hello, World!`.

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  return new Response('Hello, World!\n', { headers: { 'content-type': 'text/plain' } });
}
