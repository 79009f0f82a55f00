// SPDX-License-Identifier: BSD-3-Clause-Clear
// Keeps all of the page, so that it opens without a network, and isolates it, so that it has threads.

// Put in by build.py: the version is a hash of all files.
const VERSION = "@VERSION@";
const FILES = ["@FILES@"];

const isolated = (response) => {
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
};

self.addEventListener("install", (event) => {
  // Not from the browser's cache, where files of another version may be.
  const requests = FILES.map((file) => new Request(file, { cache: "reload" }));
  event.waitUntil(caches.open(VERSION).then((cache) => cache.addAll(requests)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const others = caches.keys().then((names) =>
    Promise.all(names.filter((name) => name !== VERSION).map((name) => caches.delete(name))));
  event.waitUntil(others.then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== self.location.origin) return;
  event.respondWith((async () => {
    const cache = await caches.open(VERSION);
    const kept = await cache.match(event.request, { ignoreSearch: true });
    return isolated(kept ?? (await fetch(event.request)));
  })());
});
