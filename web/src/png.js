// SPDX-License-Identifier: BSD-3-Clause-Clear
// PNG files (ISO/IEC 15948) of 8-bit samples, with colour profile and EXIF, which canvases leave out.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const COLOUR_TYPES = { 1: 0, 2: 4, 3: 2, 4: 6 };

const TABLE = Uint32Array.from({ length: 256 }, (_, i) => {
  let value = i;
  for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? 0xedb88320 : 0);
  return value;
});

function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = (value >>> 8) ^ TABLE[(value ^ byte) & 255];
  return ~value >>> 0;
}

function chunk(type, content) {
  const bytes = new Uint8Array(12 + content.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(content, 8);
  view.setUint32(8 + content.length, crc32(bytes.subarray(4, 8 + content.length)));
  return bytes;
}

async function deflate(content) {
  const stream = new Blob([content]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * @param samples `height * width * channels` bytes; 1 to 4 channels: grey, grey and alpha, RGB, RGBA
 * @param icc, exif the profile, and metadata as in a JPEG file; null for none
 * @returns {Promise<Uint8Array>}
 */
export async function writePng({ width, height, channels, samples, icc = null, exif = null }) {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, COLOUR_TYPES[channels], 0, 0, 0], 8);
  // Each row less the one above it (filter 2), which photographs compress better with.
  const stride = width * channels;
  const rows = new Uint8Array(height * (stride + 1));
  for (let y = 0; y < height; y++) {
    const out = y * (stride + 1);
    rows[out] = y === 0 ? 0 : 2;
    for (let x = 0; x < stride; x++) {
      const at = y * stride + x;
      rows[out + 1 + x] = samples[at] - (y === 0 ? 0 : samples[at - stride]);
    }
  }
  const parts = [Uint8Array.from(SIGNATURE), chunk("IHDR", header)];
  if (icc) {
    const name = new TextEncoder().encode("ICC profile\0\0");
    const packed = await deflate(icc);
    const content = new Uint8Array(name.length + packed.length);
    content.set(name);
    content.set(packed, name.length);
    parts.push(chunk("iCCP", content));
  }
  if (exif) {
    const marked = new TextDecoder("latin1").decode(exif.subarray(0, 6)) === "Exif\0\0";
    parts.push(chunk("eXIf", marked ? exif.subarray(6) : exif));
  }
  parts.push(chunk("IDAT", await deflate(rows)), chunk("IEND", new Uint8Array(0)));
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** Whether a PNG file says that it holds 8-bit greyscale of that size, as alpha planes do. */
export function isGreyPng(bytes, width, height) {
  if (bytes.length < 33 || SIGNATURE.some((byte, i) => bytes[i] !== byte)) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const sides = view.getUint32(16) === width && view.getUint32(20) === height;
  return sides && bytes[24] === 8 && bytes[25] === 0;
}
