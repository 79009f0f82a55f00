// SPDX-License-Identifier: BSD-3-Clause-Clear
// The page: opens what is dropped, chosen or linked to, and shows what is known of it.

import { CaiError, call, toBitmap } from "./client.js";
import { Viewer } from "./viewer.js";

const at = (id) => document.getElementById(id);
const viewer = new Viewer(Object.fromEntries(
  ["stage", "scene", "decoded", "source", "split", "zoom"].map((id) => [id, at(id)])));

// What is shown: the decoded image, its file if it was made here, its name, and its original.
let shown = { image: null, file: null, name: "", original: null };
// A file that is opened while another one is being decoded takes its place.
let latest = 0;

const HELP = {
  NotACodedImageError: "This is neither a .cai file nor an image that this browser knows.",
  UnsupportedVersionError: "The file is of a version, or uses features, that this page does not read.",
  DamagedFileError: "The file is damaged.",
  TruncatedFileError: "The file is damaged: a part of it is missing.",
  ChecksumError: "The file is damaged: some of it was changed.",
  ImpossibleHeaderError: "The file is damaged, or was made by no proper program.",
  TooLargeError: "The image is too large for this page.",
  MemoryError: "There is not enough memory for this image.",
};

function tell(error, name) {
  const help = HELP[error.kind];
  const text = help ? `${help} (${error.message})` : error.message;
  at("message").hidden = false;
  at("message").dataset.kind = error.kind ?? "Error";
  at("message").textContent = name ? `${name}: ${text}` : text;
}

function number(value, digits = 0) {
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function psnr(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i += 4) {
    for (let c = 0; c < 3; c++) sum += (a[i + c] - b[i + c]) ** 2;
  }
  return sum === 0 ? Infinity : 10 * Math.log10((255 ** 2 * 0.75 * a.length) / sum);
}

function showFacts() {
  const { image, original } = shown;
  const facts = {
    Size: `${image.width} × ${image.height}`,
    File: `${number(image.bytes)} bytes`,
    Rate: `${number((8 * image.bytes) / (image.width * image.height), 3)} bits a pixel`,
    Model: `${image.model} ${image.quality < 0 ? "" : number(image.quality, Number.isInteger(image.quality) ? 0 : 2)}`,
    Tiles: image.tiles > 1 ? String(image.tiles) : "",
    PSNR: original ? `${number(psnr(image.rgba, original.rgba), 2)} dB` : "",
    Decoded: `in ${number(image.milliseconds / 1000, 2)} s`,
    Latent: image.hash,
  };
  at("facts").replaceChildren(...Object.entries(facts).filter(([, text]) => text).map(([name, text]) => {
    const [entry, term, fact] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
    [term.textContent, fact.textContent] = [name, text];
    entry.append(term, fact);
    return entry;
  }));
}

async function samplesOf(blob) {
  const options = { imageOrientation: "from-image", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(blob, options).catch(() => {
    throw new CaiError("NotACodedImageError", "it begins otherwise, and no other reader knows it");
  });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { width, height, rgba: context.getImageData(0, 0, width, height).data };
}

const isCoded = (bytes) => [0x93, 0x43, 0x41, 0x49].every((byte, i) => bytes[i] === byte);

async function showOriginal(original) {
  const { image } = shown;
  if (original.width !== image.width || original.height !== image.height) {
    throw new CaiError("ValueError", `the original must have ${image.width} × ${image.height} pixels, it has ${original.width} × ${original.height}`);
  }
  shown.original = original;
  viewer.showOriginal(await createImageBitmap(new ImageData(original.rgba, original.width, original.height)));
  showFacts();
}

async function show(bytes, name, file, original, request) {
  const image = await call("decode", [bytes], ({ done, tiles }) => {
    if (request !== latest || tiles < 2) return;
    Object.assign(at("progress"), { value: done, max: tiles });
  });
  const bitmap = await toBitmap(image);
  if (request !== latest) return;
  shown = { image, file, name, original: null };
  at("hint").hidden = true;
  at("tools").hidden = false;
  at("cai").hidden = !file;
  viewer.show(bitmap);
  bitmap.close();
  viewer.showOriginal(null);
  if (original) await showOriginal(original);
  else showFacts();
}

async function code(original, name, request) {
  const most = Math.max(0, Math.round(1000 * at("most").valueAsNumber || 0));
  const { file } = await call("encode", [original, at("quality").valueAsNumber || 0, most]);
  if (request !== latest) return;
  await show(file, name, file, original, request);
}

// Runs a request, of which the last one counts; `name` is that of what it is about.
async function attempt(work, name = "") {
  const request = ++latest;
  at("message").hidden = true;
  at("progress").removeAttribute("value");
  at("progress").hidden = false;
  try {
    await work(request);
  } catch (error) {
    if (request === latest) tell(error, name);
  } finally {
    if (request === latest) at("progress").hidden = true;
  }
}

async function chooseQualities() {
  if (at("quality").max) return;
  const { low, high, usual, step } = await call("qualities", []);
  for (const id of ["slider", "quality"]) Object.assign(at(id), { min: low, max: high, value: usual });
  at("quality").step = step || "any";
}

const withoutSuffix = (name) => name.replace(/\.[^.]*$/, "") || "image";

/** Open a file: decode it if it is a coded image, code it if it is another one. */
function open(blob, name) {
  return attempt(async (request) => {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    // What begins like no image gets the decoder's message.
    const original = isCoded(bytes) || bytes.length === 0 ? null : await samplesOf(blob);
    at("coding").hidden = !original;
    if (!original) return show(bytes, withoutSuffix(name), null, null, request);
    await chooseQualities();
    return code(original, withoutSuffix(name), request);
  }, name);
}

function openLink(url) {
  return attempt(async (request) => {
    at("coding").hidden = true;
    const name = decodeURIComponent(new URL(url, location.href).pathname.split("/").pop());
    await show(await call("load", [new URL(url, location.href).href]), withoutSuffix(name), null, null, request);
  }, url);
}

function save(content, type, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

at("open").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", ({ target }) => {
  if (target.files[0]) open(target.files[0], target.files[0].name);
  target.value = "";
});
at("link").addEventListener("submit", (event) => {
  event.preventDefault();
  const url = event.target.url.value.trim();
  if (url) openLink(url);
});
at("coding").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt((request) => code(shown.original, shown.name, request));
});
at("slider").addEventListener("input", () => (at("quality").value = at("slider").value));
at("quality").addEventListener("input", () => (at("slider").value = at("quality").value));
at("compare").addEventListener("click", () => at("original").click());
at("original").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  if (file) attempt(async () => showOriginal(await samplesOf(file)));
  target.value = "";
});
at("png").addEventListener("click", () => attempt(async () =>
  save(await call("toPng", [shown.image]), "image/png", `${shown.name}.png`)));
at("cai").addEventListener("click", () => save(shown.file, "application/octet-stream", `${shown.name}.cai`));
at("fit").addEventListener("click", () => viewer.fit());
at("one").addEventListener("click", () => viewer.exact());
at("larger").addEventListener("click", () => viewer.zoomBy(1.25));
at("smaller").addEventListener("click", () => viewer.zoomBy(0.8));
at("stage").addEventListener("keydown", ({ key }) => {
  const action = {
    "+": () => viewer.zoomBy(1.25), "=": () => viewer.zoomBy(1.25), "-": () => viewer.zoomBy(0.8),
    0: () => viewer.fit(), 1: () => viewer.exact(),
  }[key];
  if (shown.image) action?.();
});
for (const type of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    at("stage").classList.toggle("over", type === "dragover");
    const file = type === "drop" && event.dataTransfer.files[0];
    if (file) open(file, file.name);
  });
}

const linked = new URLSearchParams(location.search).get("src");
if (linked) openLink(linked);

navigator.serviceWorker?.register("service-worker.js").then(() => navigator.serviceWorker.ready).then(() => {
  document.documentElement.dataset.offline = "ready";
});
