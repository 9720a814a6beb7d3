
// ---- Errors ----

/** The directory refuses a request, or does not answer. `status` is 0 where there is no answer of a directory. */
export class Problem extends Error {
  constructor(message, { status = 0, document = {}, retryAfterS = null } = {}) {
    super(message);
    this.name = "Problem";
    this.status = status;
    this.document = document;
    // The stable name of what is wrong, such as "node_not_found".
    this.error = document.error ?? "no_answer";
    this.reason = document.reason ?? "";
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same request will be refused again. */
  get isFinal() {
    return this.status >= 400 && this.status < 500 && this.status !== 408 && this.status !== 429;
  }
}

/** A key set, a token or a peer's proof is not what it should be. `reason` is a stable name. */
export class Untrusted extends Error {
  constructor(reason, message) {
    super(message);
    this.name = "Untrusted";
    this.reason = reason;
  }
}

function expect(condition, reason, message) {
  if (!condition) throw new Untrusted(reason, message);
}

// ---- Encodings ----

const CLOCK_SKEW_S = 30;
const KEY_ID = /^[A-Za-z0-9_-]{43}$/;
const utf8 = (text) => new TextEncoder().encode(text);
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function concat(...pieces) {
  const joined = new Uint8Array(pieces.reduce((length, piece) => length + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    joined.set(piece, at);
    at += piece.length;
  }
  return joined;
}

function bytesOfHex(text) {
  return Uint8Array.from(text.match(/../g) ?? [], (digits) => parseInt(digits, 16));
}

function equal(a, b) {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

export function base64(bytes) {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

export function base64url(bytes) {
  return base64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** Decode a text that `encode` makes of some bytes. Each value has one form; all others are refused. */
function decoded(text, encode) {
  expect(typeof text === "string", "malformed", "a text is missing");
  let bytes;
  try {
    bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  } catch {
    throw new Untrusted("malformed", "a text is not base64");
  }
  expect(encode(bytes) === text, "malformed", "a text is not base64 in its one form");
  return bytes;
}

export const fromBase64 = (text) => decoded(text, base64);
export const fromBase64url = (text) => decoded(text, base64url);

function json(bytes) {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    throw new Untrusted("malformed", "a content is not JSON");
  }
}

/** Pre-authentication encoding: `pieces`, texts or bytes, as bytes that no other pieces yield. */
export function pae(...pieces) {
  const number = (value) => new Uint8Array(new BigUint64Array([BigInt(value)]).buffer);
  const encoded = pieces.map((piece) => (typeof piece === "string" ? utf8(piece) : piece));
  return concat(number(pieces.length), ...encoded.flatMap((piece) => [number(piece.length), piece]));
}

// ---- Keys of nodes ----

const ED25519_SPKI = bytesOfHex("302a300506032b6570032100");

/** Return the DER SubjectPublicKeyInfo of a `public_key`. */
export function spkiOf(publicText) {
  const bytes = fromBase64(publicText);
  return bytes.length === 32 ? concat(ED25519_SPKI, bytes) : bytes;
}

export async function keyId(spki) {
  return base64url(await platform.sha256(spki));
}

const isEd25519 = (spki) => spki.length === 44 && equal(spki.subarray(0, 12), ED25519_SPKI);

async function verifiesByNode(spki, signature, message) {
  try {
    if (isEd25519(spki)) return await platform.verifyEd25519(spki, signature, message);
    return await platform.verifyPss(spki, "SHA-512", 64, signature, message);
  } catch {
    return false;
  }
}

/** A node's key with its private half: Ed25519, or RSA read from PEM. */
export class NodeKey {
  constructor(pem, spki, id, sign) {
    this.pem = pem;
    this.spki = spki;
    this.id = id;
    this.sign = sign;
  }

  static async generate() {
    return NodeKey.fromPem(await platform.generatePem());
  }

  /** Read PKCS#8 in PEM, as `openred-central keygen` writes it. */
  static async fromPem(pem) {
    const { spki, sign } = await platform.privateKey(pem);
    return new NodeKey(pem, spki, await keyId(spki), sign);
  }

  /** The `public_key` of a registration. */
  get publicText() {
    return base64(isEd25519(this.spki) ? this.spki.subarray(12) : this.spki);
  }
}

// ---- Signed requests (RFC 9421) ----

/** Return the headers that sign one request. `nonce` is never used twice with a key. */
export async function signedHeaders(key, method, authority, path, body, created, nonce) {
  const headers = {};
  const lines = [`"@method": ${method}`, `"@authority": ${authority}`, `"@path": ${path}`];
  let covered = '("@method" "@authority" "@path")';
  if (body.length) {
    headers["Content-Digest"] = `sha-256=:${base64(await platform.sha256(body))}:`;
    lines.push(`"content-digest": ${headers["Content-Digest"]}`);
    covered = '("@method" "@authority" "@path" "content-digest")';
  }
  const parameters = `${covered};created=${created};nonce="${nonce}";keyid="${key.id}";tag="openred-3"`;
  lines.push(`"@signature-params": ${parameters}`);
  headers["Signature-Input"] = `sig1=${parameters}`;
  headers.Signature = `sig1=:${base64(await key.sign(utf8(lines.join("\n"))))}:`;
  return headers;
}

// ---- The directory's keys ----

const SIGNATURE_BYTES = { r: 256, R: 384, e: 64, h: 3693 };
// All of the SPKI of an RSA key with the exponent 65537 before and after its modulus.
const RSA_SPKI = {
  r: bytesOfHex("30820122300d06092a864886f70d01010105000382010f003082010a0282010100"),
  R: bytesOfHex("308201a2300d06092a864886f70d01010105000382018f003082018a0282018100"),
};
const RSA_EXPONENT = bytesOfHex("0203010001");
const COMPOSITE_SPKI = bytesOfHex("3082093f300a06082b060105050706290382092f00");
const COMPOSITE_LABEL = utf8("COMPSIG-MLDSA65-RSA3072-PSS-SHA512");
const MLDSA_KEY_BYTES = 1952;
const MLDSA_SIGNATURE_BYTES = 3309;
const RSA3072_SPKI_HEAD = RSA_SPKI.R.subarray(0, 24);

/** Whether this platform has ML-DSA-65, without which no composite signature can be verified. */
export const hasMlDsa = platform.verifyMlDsa65 !== null;

function expectRsa(suite, spki) {
  const head = RSA_SPKI[suite];
  const modulus = SIGNATURE_BYTES[suite];
  const isKey =
    spki.length === head.length + modulus + RSA_EXPONENT.length &&
    equal(spki.subarray(0, head.length), head) &&
    spki[head.length] >= 0x80 &&
    equal(spki.subarray(head.length + modulus), RSA_EXPONENT);
  expect(isKey, "malformed", `a key is no RSA key of suite ${suite}`);
}

function rsaOfComposite(spki) {
  return concat(RSA3072_SPKI_HEAD, spki.subarray(COMPOSITE_SPKI.length + MLDSA_KEY_BYTES));
}

/** A key of the directory; `DirectoryKey.of` reads one. */
class DirectoryKey {
  constructor(suite, spki, id) {
    this.suite = suite;
    this.spki = spki;
    this.id = id;
  }

  static async of(suite, publicKey) {
    expect(Object.hasOwn(SIGNATURE_BYTES, suite), "malformed", `no suite is called ${suite}`);
    const spki = fromBase64(publicKey);
    if (suite === "e") {
      expect(isEd25519(spki), "malformed", "a key is no Ed25519 key");
    } else if (suite === "h") {
      const head = spki.subarray(0, COMPOSITE_SPKI.length);
      expect(equal(head, COMPOSITE_SPKI), "malformed", "a key is no composite key");
      expectRsa("R", rsaOfComposite(spki));
    } else {
      expectRsa(suite, spki);
    }
    return new DirectoryKey(suite, spki, base64url(await platform.sha256(pae("openred/3 directory key", suite, spki))));
  }

  /** Return whether `signature` is by this key and of `message`. Without ML-DSA-65, suite h is refused. */
  async verify(signature, message) {
    if (signature.length !== SIGNATURE_BYTES[this.suite]) return false;
    if (this.suite === "e") return platform.verifyEd25519(this.spki, signature, message);
    if (this.suite !== "h") return platform.verifyPss(this.spki, "SHA-256", 32, signature, message);
    // Half a composite signature is none.
    const advice = "the owner of this node may choose to pin the directory's classical root key";
    expect(hasMlDsa, "unsupported", `a composite signature needs ML-DSA-65, which this platform lacks; ${advice}`);
    const representative = concat(
      utf8("CompositeAlgorithmSignatures2025"), COMPOSITE_LABEL, [9], utf8("openred/3"), await platform.sha512(message),
    );
    const start = COMPOSITE_SPKI.length;
    const mldsa = this.spki.subarray(start, start + MLDSA_KEY_BYTES);
    const first = signature.subarray(0, MLDSA_SIGNATURE_BYTES);
    const second = signature.subarray(MLDSA_SIGNATURE_BYTES);
    const isFirst = await platform.verifyMlDsa65(mldsa, COMPOSITE_LABEL, first, representative);
    const isSecond = await platform.verifyPss(rsaOfComposite(this.spki), "SHA-256", 32, second, representative);
    return isFirst && isSecond;
  }
}

const KEYSET_S_MAX = 5_184_000;
const isTime = (value) => Number.isSafeInteger(value) && value >= 0;

/** A verified key set, from `verifyKeySet`. */
class KeySet {
  constructor(content, keys) {
    this.version = content.version;
    this.issuedAt = content.issued_at;
    this.expiresAt = content.expires_at;
    this.revoked = content.revoked_kids;
    // Each is `{key, notBefore, notAfter}`.
    this.keys = keys;
  }

  /** Return the valid key whose id begins with `shortId`. */
  find(shortId, nowS) {
    expect(nowS < this.expiresAt, "keyset_expired", "the key set is too old; fetch it again");
    const isRevoked = this.revoked.some((id) => id.startsWith(shortId));
    expect(!isRevoked, "revoked_key", `the directory has revoked its key ${shortId}`);
    const found = this.keys.find((entry) => entry.key.id.startsWith(shortId));
    expect(found, "unknown_key", `the key set has no key ${shortId}; fetch it again`);
    const isValid = found.notBefore - CLOCK_SKEW_S <= nowS && nowS < found.notAfter;
    expect(isValid, "key_time", `key ${shortId} is not valid now; fetch the key set again`);
    return found.key;
  }
}

async function readKeySet(bytes) {
  const content = json(bytes);
  const isSet =
    isObject(content) &&
    [content.version, content.issued_at, content.expires_at].every(isTime) &&
    Array.isArray(content.keys) && content.keys.length <= 16 && content.keys.every(isObject) &&
    Array.isArray(content.revoked_kids) && content.revoked_kids.length <= 256 &&
    content.revoked_kids.every((id) => typeof id === "string");
  expect(isSet, "malformed", "this is no key set");
  const keys = [];
  for (const row of content.keys) {
    const key = await DirectoryKey.of(row.suite, row.public_key);
    expect(key.id === row.kid, "malformed", `the key called ${row.kid} is ${key.id}`);
    expect(isTime(row.not_before) && isTime(row.not_after), "malformed", "a key has no times");
    keys.push({ key, notBefore: row.not_before, notAfter: row.not_after });
  }
  const shortIds = new Set(keys.map((entry) => entry.key.id.slice(0, 16)));
  expect(shortIds.size === keys.length, "malformed", "two keys begin alike");
  return new KeySet(content, keys);
}

/**
 * Return the key set in `document`, the bytes that `GET /security/keys` answers.
 *
 * `rootKeyId` is the id of the root key that must have signed it. A platform without ML-DSA-65 may be given
 * `classicalRootKeyId` in its place, whose signature is not quantum-safe. `versionMin` is the version of the newest
 * key set that was seen before.
 */
export async function verifyKeySet(document, { rootKeyId, classicalRootKeyId = null, nowS, versionMin = 0 }) {
  expect(document.length <= 65_536, "malformed", `the document of a key set has ${document.length} bytes`);
  const fields = json(document);
  expect(isObject(fields) && isObject(fields.root), "malformed", "this is no document of a key set");
  const bytes = fromBase64url(fields.keyset);
  const isClassical = classicalRootKeyId !== null;
  const shown = isClassical ? fields.classical : fields;
  const known = isClassical ? classicalRootKeyId : rootKeyId;
  expect(isObject(shown) && isObject(shown.root), "no_classical", "the directory publishes no classical signature");
  expect(!isClassical || shown.root.suite === "R", "malformed", "a classical root key is of suite R");
  const root = await DirectoryKey.of(shown.root.suite, shown.root.public_key);
  expect(root.id === known, "root", `the key set is signed by ${root.id}, the root key known is ${known}`);
  const label = isClassical ? "openred/3 keyset classical" : "openred/3 keyset";
  const isSigned = await root.verify(fromBase64url(shown.signature), pae(label, bytes));
  expect(isSigned, "signature", "the key set was not signed by the root key, or was changed since");
  const keySet = await readKeySet(bytes);
  const { version, issuedAt, expiresAt, keys } = keySet;
  const last = Math.max(expiresAt, ...keys.map((entry) => entry.notAfter));
  expect(version - issuedAt <= 3_600 && last - issuedAt <= KEYSET_S_MAX, "excess", "no directory issues this key set");
  expect(version >= versionMin, "rollback", `key set ${version} is older than ${versionMin}, which was seen before`);
  expect(issuedAt - CLOCK_SKEW_S <= nowS, "not_yet", `the key set is valid from ${issuedAt} on`);
  expect(nowS < expiresAt, "keyset_expired", `the key set was valid until ${expiresAt}; fetch it again`);
  return keySet;
}

// ---- Tokens ----

const TOKEN_MEMBERS = ["jti", "sub", "cnf", "aud", "pcnf", "iat", "exp", "gen", "pur"];

function isToken(claims) {
  const isText = (value) => typeof value === "string" && value !== "";
  const is = (pattern, value) => typeof value === "string" && pattern.test(value);
  const isKeyId = (value) => value === null || is(KEY_ID, value);
  const isAlone = claims.pair == null && claims.link == null;
  return (
    claims.t === "peer" && TOKEN_MEMBERS.every((name) => Object.hasOwn(claims, name)) &&
    isText(claims.sub) && isText(claims.aud) && typeof claims.pur === "string" &&
    is(/^[A-Za-z0-9_-]{22}$/, claims.jti) && isKeyId(claims.cnf) && isKeyId(claims.pcnf) &&
    [claims.iat, claims.exp, claims.gen].every(isTime) &&
    claims.exp > claims.iat && claims.exp - claims.iat <= 3_600 &&
    (isAlone || (is(/^[0-9a-f]{32}$/, claims.pair) && is(/^[0-9a-f]{64}$/, claims.link)))
  );
}

/** Return the claims of a token, verified by a key set. `audience` is the node it is shown to, where that matters. */
export async function verifyToken(text, keySet, { nowS, audience = null }) {
  const pieces = typeof text === "string" && text.length <= 8_192 ? text.split(".") : [];
  const [version, suite, shortId] = pieces;
  const isShaped = pieces.length === 5 && version === "or3" && /^[A-Za-z0-9_-]{16}$/.test(shortId);
  expect(isShaped, "malformed", "a token has five pieces with dots between, and at most 8192 characters");
  const [payload, signature] = pieces.slice(3).map(fromBase64url);
  const key = keySet.find(shortId, nowS);
  expect(key.suite === suite, "malformed", `key ${shortId} signs in suite ${key.suite}, not ${suite}`);
  const isSigned = await key.verify(signature, pae("openred/3 token", `or3.${suite}.${shortId}.`, payload));
  expect(isSigned, "signature", "the token was not signed by the directory, or was changed since");
  const claims = json(payload);
  expect(isObject(claims) && isToken(claims), "malformed", "the payload is not that of a token");
  expect(claims.iat - CLOCK_SKEW_S <= nowS, "not_yet", `the token is valid from ${claims.iat} on`);
  expect(nowS < claims.exp, "expired", `the token was valid until ${claims.exp}; ask for a new one`);
  const isOurs = audience === null || claims.aud === audience || claims.aud === "*";
  expect(isOurs, "audience", `the token is for ${claims.aud}, not for ${audience}`);
  return claims;
}

export async function tripleHash(data, salt) {
  const bytes = utf8(`${data}:${salt}`);
  const digests = [await platform.sha256(bytes), await platform.sha512(bytes), await platform.blake2b(bytes)];
  return hex(await platform.sha256(utf8(digests.map(hex).join(":"))));
}

const bySub = (a, b) => (a.sub < b.sub ? -1 : 1);

/** Return `{a, b}`, the claims of two tokens, and their texts. They must be valid and made for each other. */
export async function verifyPair(textA, textB, keySet, { nowS }) {
  const a = await verifyToken(textA, keySet, { nowS });
  const b = await verifyToken(textB, keySet, { nowS });
  const areFor = a.sub !== b.sub && a.sub === b.aud && b.sub === a.aud && a.cnf === b.pcnf && b.cnf === a.pcnf;
  expect(areFor, "unlinked", "the tokens are not for each other's nodes and keys");
  const areMade = a.pair != null && a.pair === b.pair && a.iat === b.iat && a.exp === b.exp;
  expect(areMade, "unlinked", "the tokens were not made together");
  const sides = [a, b].sort(bySub).flatMap((token) => [token.sub, token.cnf ?? "", token.jti]);
  const encoded = base64url(pae("openred/3 link", ...sides, String(a.iat), String(a.exp)));
  const link = await tripleHash(encoded, a.pair);
  expect(link === a.link && link === b.link, "unlinked", "the link in the tokens is not that of these two tokens");
  return { a, b, textA, textB };
}

// ---- Proof of possession ----

export const challenge = () => platform.random(32);

async function possession(pair, nodeId, challenged) {
  const sides = [{ ...pair.a, text: pair.textA }, { ...pair.b, text: pair.textB }].sort(bySub);
  const digests = [await platform.sha256(utf8(sides[0].text)), await platform.sha256(utf8(sides[1].text))];
  return pae("openred/3 pop", nodeId, challenged, ...digests, pair.a.link);
}

/** Return the answer to a peer's challenge, by which the node `nodeId` of the pair shows that it holds `key`. */
export async function answerChallenge(pair, nodeId, challenged, key) {
  if (challenged.length !== 32) throw new RangeError(`a challenge has 32 bytes, this one ${challenged.length}`);
  const signature = await key.sign(await possession(pair, nodeId, challenged));
  return { public_key: key.publicText, signature: base64url(signature) };
}

/** Throw unless `answer` shows that its sender is the node `nodeId` of the pair. */
export async function checkAnswer(pair, nodeId, challenged, answer) {
  expect(isObject(answer), "malformed", "this is no answer to a challenge");
  const token = [pair.a, pair.b].find((each) => each.sub === nodeId);
  expect(token?.cnf, "no_key", `the pair names no key of ${nodeId}`);
  const spki = spkiOf(answer.public_key);
  expect((await keyId(spki)) === token.cnf, "wrong_key", `the key shown is not that of the token about ${nodeId}`);
  const message = await possession(pair, nodeId, challenged);
  const isSigned = await verifiesByNode(spki, fromBase64url(answer.signature), message);
  expect(isSigned, "proof", `the signature does not show that ${nodeId} answered this challenge`);
}

// ---- A node ----

const ANSWER_BYTES_MAX = 4 * 1024 * 1024;
const TIMEOUT_S = 30;
// A session lasts five minutes; its last seconds are not used, as it could expire on the way.
const SESSION_S = 290;
const ADVICE_S_MAX = 14 * 86_400;
const CORRECTION_S_MAX = 86_400;
const nowS = () => Date.now() / 1000;

/** Wait in slices, to notice soon after the machine was suspended that the time is up. */
async function pause(seconds, signal) {
  const endsS = nowS() + seconds;
  for (let leftS = seconds; leftS > 0 && !signal?.aborted; leftS = Math.min(leftS - 60, endsS - nowS())) {
    await new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", end);
        resolve();
      };
      const timer = setTimeout(end, Math.min(leftS, 60) * 1000);
      signal?.addEventListener("abort", end);
    });
  }
}

async function contentOf(response) {
  const pieces = [];
  let length = 0;
  const reader = response.body?.getReader();
  for (let read = await reader?.read(); read && !read.done; read = await reader.read()) {
    length += read.value.length;
    if (length > ANSWER_BYTES_MAX) {
      await reader.cancel();
      throw new Problem(`the answer has more than ${ANSWER_BYTES_MAX} bytes`);
    }
    pieces.push(read.value);
  }
  return concat(...pieces);
}

const documentOf = (bytes) => {
  try {
    const document = json(bytes);
    return isObject(document) ? document : null;
  } catch {
    return null;
  }
};

function problemOf(response, bytes) {
  const isOwn = response.headers.get("content-type")?.startsWith("application/problem+json");
  const document = isOwn ? documentOf(bytes) : null;
  const after = response.headers.get("retry-after") ?? "";
  const retryAfterS = /^\d{1,9}$/.test(after) ? Number(after) : null;
  if (typeof document?.error !== "string") {
    return new Problem(`the answer is ${response.status}, and not of a directory`, { retryAfterS });
  }
  const message = `${response.status} ${document.error}: ${document.message}`;
  return new Problem(message, { status: response.status, document, retryAfterS });
}

/**
 * A node of the directory at `url` with a `NodeKey`. Its id is `k-` and the id of the key, unless `nodeId` is another.
 *
 * `rootKeyId` pins the directory's root key; otherwise the first one seen is trusted: keep `node.rootKeyId`. Where
 * `hasMlDsa` is false, its owner may choose to pin the directory's `classicalRootKeyId` instead.
 */
export class Node {
  #session = null;
  #sessionEndsS = 0;
  #offsetS = 0;
  #seq = null;
  #etag = null;
  #keySet = null;
  #registration = null;

  constructor(url, key, { nodeId = `k-${key.id}`, rootKeyId = null, classicalRootKeyId = null } = {}) {
    if (rootKeyId !== null && classicalRootKeyId !== null) {
      throw new TypeError("both a root key and a classical root key are given; pin one of them");
    }
    if (classicalRootKeyId !== null) {
      console.warn("openred: the key set is verified by its classical root key, which is not quantum-safe");
    }
    this.url = new URL(url);
    this.key = key;
    this.nodeId = nodeId;
    this.rootKeyId = rootKeyId;
    this.classicalRootKeyId = classicalRootKeyId;
  }

  /** Register the node, or update or revive it. `further` are the other fields of a registration. */
  async register(address, port, further = {}) {
    const said = { node_id: this.nodeId, address, port, public_key: this.key.publicText, ...further };
    const answer = await this.#ask("POST", "/register", said, "signature");
    this.#registration = said;
    return answer;
  }

  /** Send a heartbeat, with `changes` of the record if any. Without, a session replaces the signature. */
  async heartbeat(changes = null) {
    return this.#ask("POST", `/heartbeat/${this.#segment()}`, changes, changes ? "signature" : "session");
  }

  /** Send heartbeats at the advised pace until `signal` aborts; `report` gets each answer and each `Problem`. */
  async keepAlive({ signal = null, report = () => {} } = {}) {
    for (let failures = 0; !signal?.aborted; ) {
      let outcome;
      let pauseS;
      try {
        outcome = await this.#heartbeatOrReturn();
        failures = 0;
        pauseS = Math.min(Math.max(outcome.heartbeat_advice_s ?? 86_400, 1), ADVICE_S_MAX);
      } catch (error) {
        if (!(error instanceof Problem) || error.isFinal) throw error;
        outcome = error;
        failures += 1;
        pauseS = Math.min(2 ** Math.min(failures, 10), 600) * (0.5 + Math.random() / 2);
        if (error.retryAfterS !== null) pauseS = Math.max(error.retryAfterS, 1) * (1 + Math.random() / 10);
      }
      report(outcome);
      await pause(pauseS, signal);
    }
  }

  /** Return peers that offer all of `services`. `filters` are the other parameters of a discovery. */
  async discover(services = [], filters = {}) {
    const query = new URLSearchParams({ ...(services.length ? { services: services.join(",") } : {}), ...filters });
    return this.#ask("GET", `/discover?${query}`);
  }

  /** Return a pair of tokens for this node and the node `peerId`: `token` and `peer_token`; without `peerId` one. */
  async tokens(peerId = null, further = {}) {
    const said = { node_id: this.nodeId, ...(peerId === null ? {} : { peer_id: peerId }), ...further };
    return this.#ask("POST", "/security/token", said, "session");
  }

  /** Hide the node until its next heartbeat, or erase it with the mode "forget". */
  async leave(mode = "leave") {
    if (mode === "forget") this.#registration = null;
    return this.#ask("DELETE", `/nodes/${this.#segment()}`, { mode }, "signature");
  }

  /** Return the verified key set of the directory, fetched if it has changed. */
  async keySet() {
    const headers = this.#etag ? { "If-None-Match": this.#etag } : {};
    const { response, bytes } = await this.#send("GET", "/security/keys", new Uint8Array(), headers);
    if (response.status === 304 && this.#keySet) return this.#keySet;
    if (!response.ok) throw problemOf(response, bytes);
    const { classicalRootKeyId } = this;
    const isFirst = this.rootKeyId === null && classicalRootKeyId === null;
    const rootKeyId = isFirst ? documentOf(bytes)?.root?.kid : this.rootKeyId;
    const versionMin = this.#keySet?.version ?? 0;
    this.#keySet = await verifyKeySet(bytes, { rootKeyId, classicalRootKeyId, nowS: nowS(), versionMin });
    this.rootKeyId = rootKeyId;
    this.#etag = response.headers.get("etag");
    return this.#keySet;
  }

  async #heartbeatOrReturn() {
    try {
      return await this.heartbeat();
    } catch (error) {
      // The directory has lost the node.
      if (![404, 410].includes(error.status) || this.#registration === null) throw error;
      return this.#ask("POST", "/register", this.#registration, "signature");
    }
  }

  #segment() {
    return encodeURIComponent(this.nodeId).replaceAll("%3A", ":");
  }

  async #ask(method, target, said = null, proof = null) {
    const body = said === null ? new Uint8Array() : utf8(JSON.stringify(said));
    for (let tries = 0; ; tries += 1) {
      const bySession = proof === "session" && this.#session !== null && nowS() < this.#sessionEndsS;
      const headers = bySession ? { Authorization: `OpenRed ${this.#session}` } : {};
      if (proof && !bySession) Object.assign(headers, await this.#signature(method, target, body));
      const { response, bytes } = await this.#send(method, target, body, headers);
      if (response.ok) return this.#take(bytes);
      const problem = problemOf(response, bytes);
      const again = tries < 2 && problem.status === 401 && (await this.#correct(problem, bySession));
      if (!again) throw problem;
    }
  }

  #signature(method, path, body) {
    const { hostname, host, port } = this.url;
    const authority = ["80", "443"].includes(port) ? hostname : host;
    const created = Math.floor(nowS() + this.#offsetS);
    return signedHeaders(this.key, method, authority, path, body, created, hex(platform.random(16)));
  }

  /** Return whether the request may be sent again, by a signature or by the directory's time. */
  async #correct(problem, bySession) {
    this.#session = null;
    if (bySession) return true;
    const serverS = Date.parse(problem.document.server_time) / 1000;
    if (!["signature_expired", "signature_early"].includes(problem.reason) || !Number.isFinite(serverS)) return false;
    if (Math.abs(serverS - nowS()) > CORRECTION_S_MAX) return false;
    this.#offsetS = serverS - nowS();
    // The directory accepts nothing that was signed in the second in which it started.
    await pause(1.1);
    return true;
  }

  async #send(method, target, body, headers) {
    if (body.length) headers["Content-Type"] = "application/json";
    if (this.#seq) headers["OpenRed-Seq"] = this.#seq;
    const signal = AbortSignal.timeout(TIMEOUT_S * 1000);
    try {
      const sent = { method, headers, body: body.length ? body : undefined, redirect: "error", signal };
      const response = await fetch(new URL(target, this.url), sent);
      this.#seq = response.headers.get("openred-seq") ?? this.#seq;
      return { response, bytes: await contentOf(response) };
    } catch (error) {
      if (error instanceof Problem) throw error;
      throw new Problem(`there is no answer from ${this.url.origin}: ${error.cause?.message ?? error.message}`);
    }
  }

  #take(bytes) {
    const document = documentOf(bytes);
    if (document === null) throw new Problem(`${this.url.origin} does not answer as a directory does`);
    if (typeof document.session === "string" && document.session !== this.#session) {
      this.#session = document.session;
      this.#sessionEndsS = nowS() + SESSION_S;
    }
    return document;
  }
}
