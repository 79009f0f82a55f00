// SPDX-License-Identifier: BSD-3-Clause-Clear
// The codec in a thread of its own, one request after the other.

import * as codec from "./codec.js";

let last = Promise.resolve();

async function answer({ id, method, parameters }) {
  const progress = (state) => self.postMessage({ id, progress: state });
  try {
    const result = await codec[method](...parameters, progress);
    self.postMessage({ id, result });
  } catch (error) {
    const memory = error instanceof RangeError;
    const kind = error.kind ?? (memory ? "MemoryError" : "Error");
    self.postMessage({ id, error: { kind, message: memory ? "there is not enough memory" : error.message } });
  }
}

self.onmessage = ({ data }) => {
  last = last.then(() => answer(data));
};
