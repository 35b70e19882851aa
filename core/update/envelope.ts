/** Checks the CMS envelope of a bundle's signature, field by field.
 *
 *  A CMS signature protects the manifest, the signed attributes and, through the chain, the certificates. It does not protect
 *  the fields around them. With RAUC 1.8 and OpenSSL 3 a flipped bit passes in both version numbers, in the content type, in
 *  some tags, and in the case of a letter of the issuer's name. Such a bundle installs what was signed. We refuse it all the
 *  same, because it is not, to the bit, what was published: each of these fields must be as `rauc bundle` writes it. */
import { ServiceError } from '../primitives/service-error.js';

interface Item {
  readonly tag: number;
  /** Tag, length and content. */
  readonly all: Buffer;
  readonly content: Buffer;
}

const sequence = 0x30;
const set = 0x31;
const zero = 0xa0; // [0]
const integer = 0x02;
const octets = 0x04;
const hex = (text: string) => Buffer.from(text, 'hex');

const signedData = hex('06092a864886f70d010702');
const plainData = hex('06092a864886f70d010701');
const one = hex('020101');
// rsaEncryption and Ed25519 name no digest.
const plainKinds = [hex('300d06092a864886f70d0101010500'), hex('300506032b6570')];
// SHA-256, 384 and 512, each without and with a NULL. RSA and ECDSA with a digest must name the same one: OpenSSL takes the
// digest from its own field, so with ecdsa-with-SHA384 in place of ecdsa-with-SHA256, one bit apart, it accepts the signature.
const algorithms = [
  { digest: '01', rsa: '0b', ecdsa: '02' },
  { digest: '02', rsa: '0c', ecdsa: '03' },
  { digest: '03', rsa: '0d', ecdsa: '04' },
].map(({ digest, rsa, ecdsa }) => ({
  digests: [hex(`300b06096086480165030402${digest}`), hex(`300d06096086480165030402${digest}0500`)],
  kinds: [...plainKinds, hex(`300d06092a864886f70d0101${rsa}0500`), hex(`300a06082a8648ce3d0403${ecdsa}`)],
}));

function refuse(): never {
  throw new ServiceError('damaged_bundle', 'the bundle is damaged: its signature has another form than rauc bundle writes; get it again');
}

function lengthAt(bytes: Buffer, at: number): { readonly length: number; readonly header: number } {
  const first = bytes[at] ?? refuse();
  if (first < 0x80) return { length: first, header: 1 };
  const count = first & 0x7f;
  if (count < 1 || count > 3 || at + 1 + count > bytes.length) refuse();
  const length = bytes.readUIntBE(at + 1, count);
  if (length < 0x80 || length < 2 ** (8 * (count - 1))) refuse(); // DER: the shortest form
  return { length, header: 1 + count };
}

/** Splits a sequence of DER items. */
function items(bytes: Buffer): Item[] {
  const result: Item[] = [];
  for (let at = 0; at < bytes.length; ) {
    const { length, header } = lengthAt(bytes, at + 1);
    const start = at + 1 + header;
    if (start + length > bytes.length) refuse();
    result.push({ tag: bytes[at] ?? 0, all: bytes.subarray(at, start + length), content: bytes.subarray(start, start + length) });
    at = start + length;
  }
  return result;
}

/** As items, and refuses other tags or another order. */
function parts(bytes: Buffer, ...tags: readonly number[]): Item[] {
  const result = items(bytes);
  if (result.length !== tags.length || result.some(({ tag }, at) => tag !== tags[at])) refuse();
  return result;
}

function check(right: boolean): void {
  if (!right) refuse();
}

/** The issuer and serial number of a certificate, as a signer names it. */
function nameOf(certificate: Item): Buffer {
  check(certificate.tag === sequence);
  const [body] = items(certificate.content);
  const fields = items((body ?? refuse()).content);
  const [serial, , issuer] = fields[0]?.tag === zero ? fields.slice(1) : fields; // version 1 has no version field
  return Buffer.concat([(issuer ?? refuse()).all, (serial ?? refuse()).all]);
}

function algorithmOf(digest: Buffer): (typeof algorithms)[number] {
  return algorithms.find(({ digests }) => digests.some((known) => known.equals(digest))) ?? refuse();
}

function checkSigner(signer: Buffer, digest: Buffer, names: readonly Buffer[]): void {
  const [version, who, hash, attributes, kind] = parts(signer, integer, sequence, sequence, zero, sequence, octets);
  check(version?.all.equals(one) === true);
  check(names.some((name) => name.equals(who?.content ?? refuse())));
  check(hash?.all.equals(digest) === true);
  check(algorithmOf(digest).kinds.some((known) => known.equals(kind?.all ?? refuse())));
  // OpenSSL encodes them again, as a SET, before it checks the signature. So nothing else checks these tags.
  for (const { tag, content } of items(attributes?.content ?? refuse())) {
    check(tag === sequence);
    const [, values] = parts(content, 0x06, set);
    items(values?.content ?? refuse());
  }
}

/** @throws ServiceError damaged_bundle */
export function checkEnvelope(cms: Buffer): void {
  const [outer] = parts(cms, sequence);
  const [type, wrapped] = parts(outer?.content ?? refuse(), 0x06, zero);
  check(type?.all.equals(signedData) === true);
  const [inner] = parts(wrapped?.content ?? refuse(), sequence);
  const [version, hashes, content, certificates, signers] = parts(inner?.content ?? refuse(), integer, set, sequence, zero, set);
  check(version?.all.equals(one) === true);
  const [digest] = parts(hashes?.content ?? refuse(), sequence);
  const [kind, manifest] = parts(content?.content ?? refuse(), 0x06, zero);
  check(kind?.all.equals(plainData) === true);
  parts(manifest?.content ?? refuse(), octets);
  const names = items(certificates?.content ?? refuse()).map(nameOf);
  const [signer] = parts(signers?.content ?? refuse(), sequence);
  checkSigner(signer?.content ?? refuse(), digest?.all ?? refuse(), names);
}
