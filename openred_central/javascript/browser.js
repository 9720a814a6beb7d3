// A node of an OpenRed directory, for browsers, without dependencies. Save this file as openred.js:
//
//   import { Node, NodeKey } from "./openred.js";
//
//   const node = new Node("https://directory.example", await NodeKey.generate());
//   console.log(await node.discover(["storage"]));
//
// It was written from the page "wire formats" of the directory. Pages of any origin may call `discover` and `keySet`,
// and verify tokens. All else changes something, so a browser allows it only to pages of the directory's own origin.
// It needs a browser with Ed25519 in WebCrypto, and a page that came by https or from localhost. It has no ML-DSA-65,
// so it refuses composite signatures, and its owner may pin a directory's classical root key, which is not quantum-safe.

const subtle = globalThis.crypto.subtle;
const digest = async (name, bytes) => new Uint8Array(await subtle.digest(name, bytes));

const BLAKE2B_INITIAL = [
  0x6a09e667f3bcc908n, 0xbb67ae8584caa73bn, 0x3c6ef372fe94f82bn, 0xa54ff53a5f1d36f1n,
  0x510e527fade682d1n, 0x9b05688c2b3e6c1fn, 0x1f83d9abfb41bd6bn, 0x5be0cd19137e2179n,
];
// The order of the words of a block in each round, in hex.
const BLAKE2B_ORDERS = [
  "0123456789abcdef", "ea489fd61c02b753", "b8c052fdae367194", "7931dcbe265a40f8", "905724afe1bc683d",
  "2c6a0b834d75fe19", "c51fed4a0763928b", "db7ec13950f4862a", "6fe9b308c2d714a5", "a2847615fb9e3cd0",
  "0123456789abcdef", "ea489fd61c02b753",
];
// The words that each step of a round mixes: columns, then diagonals.
const BLAKE2B_STEPS = ["048c", "159d", "26ae", "37bf", "05af", "16bc", "278d", "349e"];
const digits = (text) => Array.from(text, (digit) => parseInt(digit, 16));

/** Return the 64 bytes of BLAKE2b without key (RFC 7693), which WebCrypto lacks. */
function blake2b(bytes) {
  const state = new BigUint64Array(BLAKE2B_INITIAL);
  state[0] ^= 0x01010040n;
  const rotated = (word, count) => BigInt.asUintN(64, (word >> count) | (word << (64n - count)));
  const blocks = Math.max(Math.ceil(bytes.length / 128), 1);
  for (let number = 1; number <= blocks; number += 1) {
    const block = new Uint8Array(128);
    block.set(bytes.subarray((number - 1) * 128, number * 128));
    const view = new DataView(block.buffer);
    const mixed = new BigUint64Array([...state, ...BLAKE2B_INITIAL]);
    mixed[12] ^= BigInt(Math.min(number * 128, bytes.length));
    if (number === blocks) mixed[14] ^= 0xffffffffffffffffn;
    for (const order of BLAKE2B_ORDERS.map(digits)) {
      BLAKE2B_STEPS.map(digits).forEach(([a, b, c, d], step) => {
        mixed[a] += mixed[b] + view.getBigUint64(order[2 * step] * 8, true);
        mixed[d] = rotated(mixed[d] ^ mixed[a], 32n);
        mixed[c] += mixed[d];
        mixed[b] = rotated(mixed[b] ^ mixed[c], 24n);
        mixed[a] += mixed[b] + view.getBigUint64(order[2 * step + 1] * 8, true);
        mixed[d] = rotated(mixed[d] ^ mixed[a], 16n);
        mixed[c] += mixed[d];
        mixed[b] = rotated(mixed[b] ^ mixed[c], 63n);
      });
    }
    state.forEach((_, index) => (state[index] ^= mixed[index] ^ mixed[index + 8]));
  }
  const result = new DataView(new ArrayBuffer(64));
  state.forEach((word, index) => result.setBigUint64(index * 8, word, true));
  return new Uint8Array(result.buffer);
}

async function verifies(algorithm, parameters, spki, signature, message) {
  const key = await subtle.importKey("spki", spki, algorithm, false, ["verify"]);
  return subtle.verify(parameters, key, signature, message);
}

const platform = {
  random: (length) => globalThis.crypto.getRandomValues(new Uint8Array(length)),
  sha256: (bytes) => digest("SHA-256", bytes),
  sha512: (bytes) => digest("SHA-512", bytes),
  blake2b,
  async generatePem() {
    const { privateKey } = await subtle.generateKey("Ed25519", true, ["sign", "verify"]);
    const text = base64(new Uint8Array(await subtle.exportKey("pkcs8", privateKey)));
    return `-----BEGIN PRIVATE KEY-----\n${text}\n-----END PRIVATE KEY-----\n`;
  },
  async privateKey(pem) {
    const pkcs8 = fromBase64(pem.replace(/-----[A-Z ]+-----|\s/g, ""));
    // PKCS#8 of Ed25519 has one length; RSA's is much longer.
    const isRsa = pkcs8.length > 100;
    const algorithm = isRsa ? { name: "RSA-PSS", hash: "SHA-512" } : "Ed25519";
    const key = await subtle.importKey("pkcs8", pkcs8, algorithm, true, ["sign"]);
    const { kty, crv, x, n, e } = await subtle.exportKey("jwk", key);
    const half = await subtle.importKey("jwk", { kty, crv, x, n, e }, algorithm, true, ["verify"]);
    const spki = new Uint8Array(await subtle.exportKey("spki", half));
    const parameters = isRsa ? { name: "RSA-PSS", saltLength: 64 } : "Ed25519";
    return { spki, sign: async (bytes) => new Uint8Array(await subtle.sign(parameters, key, bytes)) };
  },
  verifyEd25519: (spki, signature, message) => verifies("Ed25519", "Ed25519", spki, signature, message),
  verifyPss: (spki, hash, saltLength, signature, message) =>
    verifies({ name: "RSA-PSS", hash }, { name: "RSA-PSS", saltLength }, spki, signature, message),
  verifyMlDsa65: null,
};
