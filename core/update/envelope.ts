/** The signature's envelope, read strictly.
 *
 *  A CMS signature protects the manifest, the signed attributes and, through the chain, the certificates, but not the fields
 *  around them: with RAUC 1.8 and OpenSSL 3 a flipped bit passes in both version numbers, in the content type, in the case of
 *  a letter of the issuer's name and in some tags. Such a bundle would install what was signed; yet one that is not, to the
 *  bit, what was published is not installed. So each of these fields must be what `rauc bundle` writes. */
import { UpdateError } from './errors.js';

interface Item {
  readonly tag: number;
  /** With its tag and length. */
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
// SHA-256, 384 and 512, without and with a NULL.
const digests = ['01', '02', '03'].flatMap((n) => [hex(`300b06096086480165030402${n}`), hex(`300d06096086480165030402${n}0500`)]);
// rsaEncryption, the same with each of the digests, ECDSA with each of them, Ed25519.
const signatures = [
  ...['01', '0b', '0c', '0d'].map((n) => hex(`300d06092a864886f70d0101${n}0500`)),
  ...['02', '03', '04'].map((n) => hex(`300a06082a8648ce3d0403${n}`)),
  hex('300506032b6570'),
];

function refuse(): never {
  throw new UpdateError('damaged_bundle', 'the bundle is damaged: its signature is not in the form that rauc bundle writes; get it again');
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

/** The items that stand one behind the other. */
function items(bytes: Buffer): Item[] {
  const found: Item[] = [];
  for (let at = 0; at < bytes.length; ) {
    const { length, header } = lengthAt(bytes, at + 1);
    const start = at + 1 + header;
    if (start + length > bytes.length) refuse();
    found.push({ tag: bytes[at] ?? 0, all: bytes.subarray(at, start + length), content: bytes.subarray(start, start + length) });
    at = start + length;
  }
  return found;
}

/** Exactly these tags, in this order. */
function parts(bytes: Buffer, ...tags: readonly number[]): Item[] {
  const found = items(bytes);
  if (found.length !== tags.length || found.some(({ tag }, at) => tag !== tags[at])) refuse();
  return found;
}

function must(right: boolean): void {
  if (!right) refuse();
}

/** Serial number and issuer, as they stand in a certificate. */
function nameOf(certificate: Item): Buffer {
  must(certificate.tag === sequence);
  const [body] = items(certificate.content);
  const fields = items((body ?? refuse()).content);
  const [serial, , issuer] = fields[0]?.tag === zero ? fields.slice(1) : fields; // the version is left out in version 1
  return Buffer.concat([(issuer ?? refuse()).all, (serial ?? refuse()).all]);
}

function checkSigner(signer: Buffer, digest: Buffer, names: readonly Buffer[]): void {
  const [version, who, hash, attributes, kind] = parts(signer, integer, sequence, sequence, zero, sequence, octets);
  must(version?.all.equals(one) === true);
  must(names.some((name) => name.equals(who?.content ?? refuse())));
  must(hash?.all.equals(digest) === true);
  must(signatures.some((known) => known.equals(kind?.all ?? refuse())));
  // OpenSSL signs them as a SET that it writes anew, so that the tags as they stand here are not looked at by anybody.
  for (const { tag, content } of items(attributes?.content ?? refuse())) {
    must(tag === sequence);
    const [, values] = parts(content, 0x06, set);
    items(values?.content ?? refuse());
  }
}

/** @throws UpdateError damaged_bundle */
export function checkEnvelope(cms: Buffer): void {
  const [outer] = parts(cms, sequence);
  const [type, wrapped] = parts(outer?.content ?? refuse(), 0x06, zero);
  must(type?.all.equals(signedData) === true);
  const [inner] = parts(wrapped?.content ?? refuse(), sequence);
  const [version, hashes, content, certificates, signers] = parts(inner?.content ?? refuse(), integer, set, sequence, zero, set);
  must(version?.all.equals(one) === true);
  const [digest] = parts(hashes?.content ?? refuse(), sequence);
  must(digests.some((known) => known.equals(digest?.all ?? refuse())));
  const [kind, manifest] = parts(content?.content ?? refuse(), 0x06, zero);
  must(kind?.all.equals(plainData) === true);
  parts(manifest?.content ?? refuse(), octets);
  const names = items(certificates?.content ?? refuse()).map(nameOf);
  const [signer] = parts(signers?.content ?? refuse(), sequence);
  checkSigner(signer?.content ?? refuse(), digest?.all ?? refuse(), names);
}
