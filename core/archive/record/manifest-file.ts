/** The bytes of manifest.json around its JSON. Both formats tell a whole file from a damaged one before anything is parsed.
 *
 *  Format 2 is JSON as a whole and ends with `,"seal":{"appliance":"…","mac":"…"},"sha256":"…"}` and a line end or nothing. The hash
 *  is over all bytes before `,"sha256"`, the seal's HMAC over the hash of all bytes before `,"mac"`. There may be no seal. Format 1 is
 *  JSON on the first line, and the SHA-256 of this line on the second. */
import { createHash } from 'node:crypto';

/** Where JSON ends like this, both keys belong to its outermost object: inside a string each quote has a backslash before it. */
const ending = /(?:(,"seal":\{"appliance":"[\w-]{1,64}")(,"mac":"[0-9a-f]{64}"\}))?,"sha256":"([0-9a-f]{64})"\}\n?$/;
const longestEnding = 300;

export interface WholeFile {
  readonly format: 1 | 2;
  readonly json: Buffer;
  /** SHA-256 in hex of the bytes that the seal covers; only in format 2 and with a seal. */
  readonly sealed?: string;
}

/** @returns undefined when the hash is wrong or missing */
export function openFile(bytes: Buffer): WholeFile | undefined {
  const tail = Math.max(0, bytes.length - longestEnding);
  const end = ending.exec(bytes.toString('latin1', tail));
  if (end === null) return openFormat1(bytes);
  const [, seal = '', mac = '', told] = end;
  const hash = createHash('sha256').update(bytes.subarray(0, tail + end.index + seal.length));
  const sealed = hash.copy().digest('hex');
  if (hash.update(mac).digest('hex') !== told) return undefined;
  return { format: 2, json: bytes, ...(mac !== '' && { sealed }) };
}

function openFormat1(bytes: Buffer): WholeFile | undefined {
  const end = bytes.indexOf('\n');
  const json = end < 0 ? bytes : bytes.subarray(0, end);
  const [told] = bytes.toString('latin1', json.length + 1, json.length + 66).split('\n');
  return createHash('sha256').update(json).digest('hex') === told ? { format: 1, json } : undefined;
}

/** SHA-256 in hex of the bytes that a seal covers. @param value with `seal` as its last key, which has no `mac` yet */
export const hashToSeal = (value: { readonly seal: { readonly appliance: string } }): string =>
  createHash('sha256').update(JSON.stringify(value).slice(0, -'}}'.length)).digest('hex');

/** The file in format 2. @param value with its seal, if it has one, as the last key */
export function closeFile(value: object): string {
  const body = JSON.stringify(value).slice(0, -'}'.length);
  return `${body},"sha256":"${createHash('sha256').update(body).digest('hex')}"}\n`;
}
