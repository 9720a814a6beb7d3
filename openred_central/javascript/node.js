// A node of an OpenRed directory, for Node.js 20 or newer, without dependencies. Save this file as openred.mjs:
//
//   import { readFileSync } from "node:fs";
//   import { Node, NodeKey, verifyPair } from "./openred.mjs";
//
//   const node = new Node("http://localhost:8000", await NodeKey.fromPem(readFileSync("node.pem", "utf8")));
//   await node.register("192.0.2.3", 7000, { services: ["storage"] });
//   await node.keepAlive();
//
// It was written from the page "wire formats" of the directory.

import * as crypto from "node:crypto";

const publicKey = (spki) => crypto.createPublicKey({ key: spki, format: "der", type: "spki" });
const pss = (key, saltLength) => ({ key, saltLength, padding: crypto.constants.RSA_PKCS1_PSS_PADDING });
// The SPKI of an ML-DSA-65 key but for its 1,952 bytes.
const MLDSA65_SPKI = Buffer.from("308207b2300b0609608648016503040312038207a100", "hex");

function verifyMlDsa65(key, context, signature, message) {
  return crypto.verify(null, message, { key: publicKey(Buffer.concat([MLDSA65_SPKI, key])), context }, signature);
}

/** Return whether ML-DSA-65 is here and minds the context: the first versions ignore it. */
function minds() {
  try {
    const { privateKey, publicKey } = crypto.generateKeyPairSync("ml-dsa-65");
    const message = Buffer.from("self-test");
    const [one, other] = [Buffer.from("one"), Buffer.from("other")];
    const signature = crypto.sign(null, message, { key: privateKey, context: one });
    const verifies = (context) => crypto.verify(null, message, { key: publicKey, context }, signature);
    return verifies(one) && !verifies(other);
  } catch {
    return false;
  }
}

const platform = {
  random: (length) => new Uint8Array(crypto.randomBytes(length)),
  sha256: (bytes) => crypto.createHash("sha256").update(bytes).digest(),
  sha512: (bytes) => crypto.createHash("sha512").update(bytes).digest(),
  blake2b: (bytes) => crypto.createHash("blake2b512").update(bytes).digest(),
  generatePem: () => crypto.generateKeyPairSync("ed25519").privateKey.export({ format: "pem", type: "pkcs8" }),
  privateKey(pem) {
    const key = crypto.createPrivateKey(pem);
    if (!["ed25519", "rsa"].includes(key.asymmetricKeyType)) throw new TypeError("the key is neither Ed25519 nor RSA");
    const spki = crypto.createPublicKey(key).export({ format: "der", type: "spki" });
    const isRsa = key.asymmetricKeyType === "rsa";
    const sign = (bytes) => crypto.sign(isRsa ? "sha512" : null, bytes, isRsa ? pss(key, 64) : key);
    return { spki, sign };
  },
  verifyEd25519: (spki, signature, message) => crypto.verify(null, message, publicKey(spki), signature),
  verifyPss: (spki, hash, salt, signature, message) => crypto.verify(hash, message, pss(publicKey(spki), salt), signature),
  verifyMlDsa65: minds() ? verifyMlDsa65 : null,
};
